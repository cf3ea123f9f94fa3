"""Tests of answers' log-probabilities: they equal those of the whole softmax, answer by answer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vlm_lit.objectives.log_probs import answer_log_probs
from vlm_lit.schema import IGNORE_INDEX

X = IGNORE_INDEX


class CountedHead(nn.Linear):
    """A head that notes how many positions it was run on at a time."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(6, 11, dtype=dtype)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, input: Tensor) -> Tensor:
        self.seen.append(tuple(input.shape))
        return super().forward(input)


LABELS = torch.tensor([[X, X, X, 3, 4, X, X, 7, X], [X, X, 2, 9, 10, X, X, X, X], [X, X, X, 5, X, 6, 8, 0, X]])
SEGMENTS = torch.tensor([[0, 0, 1, 1, 1, 2, 2, 2, 2], [0] * 9, [0, 0, 1, 1, 2, 2, 2, 2, 0]])


def plain(hidden: Tensor, head: nn.Linear) -> list[list[Tensor]]:
    """Each row's token log-probabilities where they are supervised, from the softmax of everything."""
    log_probs = nn.functional.linear(hidden, head.weight, head.bias).log_softmax(-1)
    return [
        [log_probs[b, t - 1, LABELS[b, t]] for t in range(1, LABELS.shape[1]) if LABELS[b, t] != X]
        for b in range(len(LABELS))
    ]


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("packed", [False, True])
def test_equal_the_whole_softmax_answer_by_answer(packed: bool, chunk: int) -> None:
    torch.manual_seed(0)
    head, hidden = CountedHead(), torch.randn(3, 9, 6, dtype=torch.float64, requires_grad=True)
    segments = SEGMENTS if packed else None
    found, lengths = answer_log_probs(hidden, LABELS, head, segments_BL=segments, chunk=chunk)
    rows = plain(hidden, head)
    answers = [rows[0][:2], rows[0][2:], rows[1], rows[2][:1], rows[2][1:]] if packed else rows
    expected = torch.stack([torch.stack(answer).sum() for answer in answers])
    assert lengths.tolist() == [len(answer) for answer in answers]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.arange(1, len(answers) + 1, dtype=torch.float64)
    ours = torch.autograd.grad(found @ weights, [hidden, head.weight])
    theirs = torch.autograd.grad(expected @ weights, [hidden, head.weight])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert max(shape[0] for shape in head.seen) <= chunk
    assert all(len(shape) == 2 for shape in head.seen)


def test_the_head_sees_supervised_positions_only() -> None:
    head = CountedHead()
    answer_log_probs(torch.randn(3, 9, 6, dtype=torch.float64), LABELS, head, segments_BL=SEGMENTS)
    assert head.seen == [(10, 6)]


def test_an_answer_without_supervised_tokens_keeps_its_place() -> None:
    labels = LABELS.clone()
    labels[0, 3:5] = labels[2, 4:] = X
    hidden = torch.randn(3, 9, 6, dtype=torch.float64)
    found, lengths = answer_log_probs(hidden, labels, CountedHead(), segments_BL=SEGMENTS)
    assert (lengths.tolist(), float(found[0].detach())) == ([0, 1, 3, 1, 0], 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_are_float32(dtype: torch.dtype) -> None:
    found, _ = answer_log_probs(torch.randn(3, 9, 6, dtype=dtype), LABELS, CountedHead(dtype))
    assert found.dtype == torch.float32
