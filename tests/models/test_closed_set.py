"""Tests of closed-set scores: an answer's log-likelihood, whatever else is in the list."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support import family_cases as cases
from vlm_lit.data.answers.candidates import candidate_tokens
from vlm_lit.models import closed_set
from vlm_lit.models.closed_set import closed_set_scores
from vlm_lit.models.families import FAMILIES
from vlm_lit.schema import PromptBatch
from vlm_lit.training.supervised import SupervisedModule

TALKS = [*cases.about_one_picture(1, 0, questions=3), cases.conversation(1, 1, 9)]
# Some begin alike, one is all of another's beginning.
ANSWERS = ["red", "red tools", "red tools and lamps", "two", "yes", "no", "no lamp"]


@pytest.fixture(scope="module")
def made(tiny_llava: Path) -> SupervisedModule:
    return cases.module(tiny_llava).eval()


@pytest.fixture(scope="module")
def batch(tiny_llava: Path) -> PromptBatch:
    (found,) = cases.prompts(cases.encoder(tiny_llava), TALKS, packing=True)
    return found


@pytest.fixture(scope="module")
def asked(tiny_llava: Path) -> list[list[int]]:
    return candidate_tokens(cases.encoder(tiny_llava), ANSWERS)


def scores(made: SupervisedModule, batch: PromptBatch, asked: list[list[int]], *, per_token: bool = False) -> Tensor:
    family = FAMILIES["llava"]
    return closed_set_scores(
        made.base, batch.inputs, batch.segments, asked, family=family, pad=2, per_token=per_token
    )  # fmt: skip


def test_a_score_is_the_log_likelihood_in_a_row_of_its_own(
    made: SupervisedModule, batch: PromptBatch, asked: list[list[int]], tiny_llava: Path
) -> None:
    by_id, encoder = {talk.id: talk for talk in TALKS}, cases.encoder(tiny_llava)
    expected = [
        torch.stack([cases.log_likelihood(made, encoder, by_id[c.id], answer) for answer in ANSWERS])
        for c in batch.conversations
    ]
    # Sums of up to a dozen log-probabilities of some nats each, in float32.
    torch.testing.assert_close(scores(made, batch, asked), torch.stack(expected), rtol=1e-5, atol=1e-4)


def test_the_order_and_the_size_of_a_pass_change_nothing(
    made: SupervisedModule, batch: PromptBatch, asked: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scores(made, batch, asked)
    torch.testing.assert_close(scores(made, batch, asked[::-1]).flip(1), expected, rtol=1e-5, atol=1e-5)
    passes: list[int] = []
    layer = made.base.get_submodule("model.language_model.layers.0")
    hook = layer.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0].shape[1]))
    monkeypatch.setattr(closed_set, "_AT_ONCE", 1)
    monkeypatch.setattr(closed_set, "_LOGITS_AT_ONCE", 1)
    try:
        again = scores(made, batch, asked)
    finally:
        hook.remove()
    assert len(passes) > len(ANSWERS) - 2
    torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)


def test_beginnings_that_answers_share_are_read_once(
    made: SupervisedModule, batch: PromptBatch, asked: list[list[int]]
) -> None:
    passes: list[int] = []
    layer = made.base.get_submodule("model.language_model.layers.0")
    hook = layer.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0].shape[1]))
    try:
        scores(made, batch, asked)
    finally:
        hook.remove()
    beginnings = {tuple(said[:n]) for said in asked for n in range(1, len(said))}
    assert passes[1:] == [3 * len(beginnings)]  # three questions in the fuller row
    assert len(beginnings) < sum(len(said) - 1 for said in asked)


def test_per_token_is_the_mean_and_can_prefer_another_answer(
    made: SupervisedModule, batch: PromptBatch, asked: list[list[int]]
) -> None:
    lengths = torch.tensor([len(said) for said in asked])
    assert len(set(lengths.tolist())) > 1
    total, mean = scores(made, batch, asked), scores(made, batch, asked, per_token=True)
    torch.testing.assert_close(mean * lengths, total)
    assert not torch.equal(mean.argmax(1), total.argmax(1))


def test_nothing_but_the_end_of_turn_can_be_an_answer(made: SupervisedModule, batch: PromptBatch) -> None:
    with torch.no_grad():
        found = scores(made, batch, [[1], [5]])
    assert found.shape == (4, 2)
    assert bool((found < 0).all())
    both = scores(made, batch, [[token] for token in range(384)])
    torch.testing.assert_close(both.exp().sum(1), torch.ones(4))
