"""Tests of cross-entropy on supervised positions: it equals the loss over whole rows and vocabulary."""

import pytest
import torch
from torch import Tensor, nn

from tests.support import tiny_models
from vlm_lit.objectives.cross_entropy import supervised_cross_entropy
from vlm_lit.schema import IGNORE_INDEX, TokenBatch


def test_equals_transformers_own_loss() -> None:
    model, _ = tiny_models.llava()
    torch.manual_seed(0)
    ids = torch.randint(10, 300, (2, 12))
    labels = ids.clone()
    labels[:, :6] = IGNORE_INDEX
    labels[1, 10:] = IGNORE_INDEX
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    ours = supervised_cross_entropy(hidden, labels, model.lm_head)
    theirs = model(input_ids=ids, labels=labels).loss * TokenBatch(inputs={}, labels=labels, ids=[]).supervised_tokens
    # Both sum the same float32 terms; only the order of the sum differs.
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_the_head_sees_supervised_positions_only() -> None:
    seen: list[tuple[int, ...]] = []

    class Head(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            seen.append(tuple(input.shape))
            return super().forward(input)

    labels = torch.full((3, 20), IGNORE_INDEX)
    labels[0, 5:9] = 1
    labels[2, 19] = 2
    supervised_cross_entropy(torch.randn(3, 20, 8), labels, Head(8, 11))
    assert seen == [(5, 8)]


def test_a_label_on_the_first_token_has_nothing_to_predict_it() -> None:
    labels = torch.full((1, 4), IGNORE_INDEX)
    labels[0, 0] = 3
    assert TokenBatch(inputs={}, labels=labels, ids=[]).supervised_tokens == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sum_is_float32(dtype: torch.dtype) -> None:
    labels = torch.tensor([[IGNORE_INDEX, 1, 2]])
    head = nn.Linear(8, 11, dtype=dtype)
    assert supervised_cross_entropy(torch.randn(1, 3, 8, dtype=dtype), labels, head).dtype == torch.float32


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_chunks_change_nothing_and_bound_what_is_kept(chunk: int) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 11, (3, 9))
    labels[1, :6] = IGNORE_INDEX
    hidden = torch.randn(3, 9, 8, requires_grad=True)
    seen: list[int] = []

    class Head(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            seen.append(len(input))
            return super().forward(input)

    head = Head(8, 11)

    def result(size: int) -> tuple[Tensor, ...]:
        loss = supervised_cross_entropy(hidden, labels, head, chunk=size)
        return loss, *torch.autograd.grad(loss, [hidden, head.weight])

    whole = result(1000)
    seen.clear()
    for one, other in zip(result(chunk), whole, strict=True):
        # float32 sums in another order.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert max(seen) <= chunk
