"""Tests of sampling: what is drawn, how often, and that no batch, order or row has a part in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support import family_cases as cases
from vlm_lit.errors import ConfigError
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.sampling import Sampler, SamplingSettings
from vlm_lit.schema import Conversation, Reply
from vlm_lit.training.answering import Answering
from vlm_lit.training.supervised import SupervisedModule

SHARES = torch.tensor([0.05, 0.4, 0.0, 0.25, 0.3])
DRAWS = 4000


def shares_drawn(logits: Tensor, **settings: float) -> list[float]:
    """How often each token is drawn, of many draws."""
    sampler = Sampler(SamplingSettings(**settings), ["answer"])  # type: ignore[arg-type]
    counts = Counter(sampler(logits[None], [0])[0] for _ in range(DRAWS))
    return [counts[token] / DRAWS for token in range(len(logits))]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_they_are_probable(temperature: float) -> None:
    expected = (SHARES.log() / temperature).softmax(-1).tolist()
    # Four standard deviations of a share near a half, of 4,000 draws.
    assert shares_drawn(SHARES.log(), temperature=temperature) == pytest.approx(expected, abs=0.032)


def test_what_may_not_be_said_is_never_drawn() -> None:
    assert shares_drawn(SHARES.log())[2] == 0.0


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.01, [1]), (0.39, [1]), (0.41, [1, 4]), (0.71, [1, 3, 4]), (0.94, [1, 3, 4]), (0.96, [0, 1, 3, 4])],
)
def test_top_p_draws_from_the_fewest_tokens_that_sum_to_it(top_p: float, kept: list[int]) -> None:
    drawn = shares_drawn(SHARES.double().log(), top_p=top_p)
    total = sum(SHARES[kept].tolist())
    expected = [float(share) / total if token in kept else 0.0 for token, share in enumerate(SHARES.tolist())]
    assert [token for token, share in enumerate(drawn) if share] == kept
    assert drawn == pytest.approx(expected, abs=0.032)


def test_each_answer_has_draws_of_its_own() -> None:
    logits = torch.zeros(3, 1000)
    settings = SamplingSettings(seed=3)

    def drawn(names: Sequence[str], settings: SamplingSettings = settings) -> dict[str, list[int]]:
        sampler = Sampler(settings, names)
        steps = [sampler(logits[: len(names)], range(len(names))) for _ in range(5)]
        return dict(zip(names, map(list, zip(*steps, strict=True)), strict=True))

    together = drawn(["a#0", "a#1", "b#0"])
    assert len(set(map(tuple, together.values()))) == 3
    assert drawn(["b#0", "a#1", "a#0"]) == together
    assert drawn(["a#1"]) == {"a#1": together["a#1"]}
    assert drawn(["a#1"], SamplingSettings(seed=4)) != {"a#1": together["a#1"]}
    # An answer that is finished draws no more, and the others go on as before.
    sampler = Sampler(settings, ["a#0", "b#0"])
    assert sampler(logits[:2], [0, 1])[1] == together["b#0"][0]
    assert [sampler(logits[:1], [1])[0] for _ in range(4)] == together["b#0"][1:]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0; it must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_settings_that_draw_nothing_are_refused(settings: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SamplingSettings(**settings)  # type: ignore[arg-type]


# Answers -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tiny_llava: Path) -> SupervisedModule:
    """NF4 and LoRA on the language model, a moved projector."""
    return cases.module(tiny_llava).eval()


TALKS = [*cases.about_one_picture(1, 0, questions=3), cases.conversation(1, 1, 9), *cases.about_one_picture(1, 4)[:2]]


def replies(
    made: SupervisedModule,
    folder: Path,
    talks: Sequence[Conversation],
    sampling: SamplingSettings | None,
    *,
    packing: bool,
) -> dict[str, Reply]:
    answering = Answering(made.model, FAMILIES["llava"], cases.encoder(folder), sampling=sampling)
    return {
        c.id: reply
        for batch in cases.prompts(cases.encoder(folder), talks, packing=packing)
        for c, reply in zip(batch.conversations, answering.replies(batch, 7), strict=True)
    }


def test_answers_do_not_depend_on_batch_order_or_shared_rows(made: SupervisedModule, tiny_llava: Path) -> None:
    sampling = SamplingSettings(seed=1, temperature=1.3, top_p=0.9)
    packed = replies(made, tiny_llava, TALKS, sampling, packing=True)
    assert len({reply.text for reply in packed.values()}) == len(TALKS)
    assert replies(made, tiny_llava, TALKS, sampling, packing=False) == packed
    assert replies(made, tiny_llava, TALKS[::-1], sampling, packing=True) == packed
    alone = {talk.id: replies(made, tiny_llava, [talk], sampling, packing=False)[talk.id] for talk in TALKS}
    assert alone == packed
    assert replies(made, tiny_llava, TALKS, SamplingSettings(seed=2), packing=True) != packed


@pytest.mark.parametrize("packing", [True, False])
def test_at_a_temperature_near_0_the_likeliest_tokens_are_drawn(
    made: SupervisedModule, tiny_llava: Path, packing: bool
) -> None:
    greedy = replies(made, tiny_llava, TALKS, None, packing=packing)
    cold = SamplingSettings(temperature=1e-6)
    assert replies(made, tiny_llava, TALKS, cold, packing=packing) == greedy


@pytest.mark.parametrize("packing", [True, False])
def test_an_images_place_is_never_drawn(made: SupervisedModule, tiny_llava: Path, packing: bool) -> None:
    encoder = cases.encoder(tiny_llava)
    answering = Answering(made.model, FAMILIES["llava"], encoder, sampling=SamplingSettings(temperature=1e6))
    vocabulary = len(encoder.tokenizer)
    # At this temperature every token is as likely as any other: two may be said, and one of them is not forbidden.
    answering.stop = type(answering.stop)(
        end_of_turn=(), pad=answering.stop.pad, forbidden=tuple(t for t in range(vocabulary) if t not in (7, 8))
    )
    (batch, *_) = cases.prompts(encoder, TALKS[:3], packing=packing)
    tokens = answering.replies(batch, 40)
    assert {reply.text for reply in tokens} != {""}
    assert set("".join(reply.text for reply in tokens)) <= set(encoder.tokenizer.decode([7, 8]) + "�")


def test_a_choice_from_a_list_cannot_be_sampled(tiny_llava: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to sample"):
        SupervisedModule(str(tiny_llava), answer_from=["yes", "no"], sampling=SamplingSettings())
