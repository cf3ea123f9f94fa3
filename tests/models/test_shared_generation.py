"""Tests of shared generation: questions of a row are answered as alone, and what they share is read once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from tests.support import family_cases as cases
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.generation import StopTokens, generate
from vlm_lit.models.packed_rows import read
from vlm_lit.models.shared_generation import generate_shared
from vlm_lit.schema import PromptBatch
from vlm_lit.training.supervised import SupervisedModule

LLAVA = FAMILIES["llava"]
LONGEST = 7

# Three, one and two questions: rows of different lengths, some of whose questions are answered before the others.
TALKS = [
    *cases.about_one_picture(1, 0, questions=3),
    cases.conversation(1, 1, 9),
    *cases.about_one_picture(1, 4, questions=2),
]


@pytest.fixture(scope="module")
def made(tiny_llava: Path) -> SupervisedModule:
    """NF4 and LoRA on the language model, a moved projector."""
    return cases.module(tiny_llava).eval()


@pytest.fixture(scope="module")
def batch(tiny_llava: Path) -> PromptBatch:
    """The questions about three pictures in three rows."""
    (found,) = cases.prompts(cases.encoder(tiny_llava), TALKS, packing=True)
    return found


def shared(module: nn.Module, batch: PromptBatch, stop: StopTokens, longest: int = LONGEST) -> dict[str, list[int]]:
    assert batch.segments is not None
    found = generate_shared(module, batch.inputs, batch.segments, family=LLAVA, max_new_tokens=longest, stop=stop)
    return {c.id: answer for c, answer in zip(batch.conversations, found, strict=True)}


def alone(module: nn.Module, folder: Path, stop: StopTokens, longest: int = LONGEST) -> dict[str, list[int]]:
    prompts = {t.id: cases.prompts(cases.encoder(folder), [t], packing=False)[0].inputs for t in TALKS}
    return {name: generate(module, row, max_new_tokens=longest, stop=stop)[0] for name, row in prompts.items()}


def test_answers_of_different_lengths_are_those_of_single_rows(
    made: SupervisedModule, batch: PromptBatch, tiny_llava: Path
) -> None:
    assert made.model is not None
    endless = alone(made.model, tiny_llava, StopTokens(end_of_turn=(), pad=2))
    assert {len(said) for said in endless.values()} == {LONGEST}

    def lengths(end: int) -> set[int]:
        return {said.index(end) if end in said else LONGEST for said in endless.values()}

    # An end that the model comes to sooner or later in some answers, and in others never.
    ends = sorted({token for said in endless.values() for token in said})
    end = max((end for end in ends if LONGEST in lengths(end)), key=lambda end: len(lengths(end)))
    stop = StopTokens(end_of_turn=(end,), pad=2)
    expected = alone(made.model, tiny_llava, stop)
    assert len({len(answer) for answer in expected.values()}) >= 3
    assert shared(made.model, batch, stop) == expected


def test_attention_that_adds_its_mask_is_given_one_to_add(batch: PromptBatch, tiny_llava: Path) -> None:
    model, stop = AutoModelForImageTextToText.from_pretrained(tiny_llava), StopTokens(end_of_turn=(1,), pad=2)
    expected = shared(model, batch, stop)
    model.set_attn_implementation("eager")
    assert shared(model, batch, stop) == expected == alone(model, tiny_llava, stop)


def test_the_base_is_adapted_with_and_without_its_shell(made: SupervisedModule, batch: PromptBatch) -> None:
    assert made.model is not None
    stop = StopTokens(end_of_turn=(1,), pad=2)
    tuned = shared(made.model, batch, stop)
    assert shared(made.base, batch, stop) == tuned
    base = AutoModelForImageTextToText.from_pretrained(made.model_id)
    assert shared(base, batch, stop) != tuned


def test_forbidden_tokens_are_never_said(made: SupervisedModule, batch: PromptBatch, tiny_llava: Path) -> None:
    free = shared(made.base, batch, StopTokens(end_of_turn=(1,), pad=2))
    said = tuple({answer[0] for answer in free.values()})
    stop = StopTokens(end_of_turn=(1,), pad=2, forbidden=said)
    bound = shared(made.base, batch, stop)
    assert not {token for answer in bound.values() for token in answer} & set(said)
    assert bound == alone(made.base, tiny_llava, stop)


def test_one_token_is_one_forward_pass(made: SupervisedModule, batch: PromptBatch) -> None:
    stop = StopTokens(end_of_turn=(), pad=2)
    longer = shared(made.base, batch, stop)
    passes: list[torch.Size] = []
    layer = made.base.get_submodule("model.language_model.layers.0")
    hook = layer.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0].shape[:2]))
    try:
        first = shared(made.base, batch, stop, longest=1)
    finally:
        hook.remove()
    assert first == {name: answer[:1] for name, answer in longer.items()}
    assert passes == [batch.inputs["input_ids"].shape]


def test_each_image_is_looked_at_once_and_answered_rows_leave(made: SupervisedModule, batch: PromptBatch) -> None:
    said = list(shared(made.base, batch, StopTokens(end_of_turn=(), pad=2)).values())
    seen: dict[str, list[int]] = {"tower": [], "rows": []}
    tower, layer = (made.base.get_submodule(f"model.{n}") for n in ("vision_tower", "language_model.layers.0"))
    hooks = [
        tower.register_forward_pre_hook(
            lambda _, inputs, named: seen["tower"].append(len(inputs[0] if inputs else named["pixel_values"])),
            with_kwargs=True,
        ),
        layer.register_forward_pre_hook(lambda _, inputs: seen["rows"].append(len(inputs[0]))),
    ]
    try:
        # The one question of the first row ends at its first token.
        single = next(i for i, c in enumerate(batch.conversations) if c.id == TALKS[3].id)
        shared(made.base, batch, StopTokens(end_of_turn=(said[single][0],), pad=2))
    finally:
        for hook in hooks:
            hook.remove()
    assert seen["tower"] == [3]
    assert seen["rows"][:2] == [3, 2]


def test_half_precision_reads_what_a_row_of_its_own_reads(
    made: SupervisedModule, batch: PromptBatch, tiny_llava: Path
) -> None:
    assert batch.segments is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = made.logits(read(made.base, batch.inputs, batch.segments, LLAVA).hidden).float()
        for logits, talk in zip(found, batch.conversations, strict=True):
            (row,) = cases.prompts(cases.encoder(tiny_llava), [t for t in TALKS if t.id == talk.id], packing=False)
            expected = made.base(**row.inputs).logits[0, -1].float()
            # bfloat16 keeps 8 bits; a few roundings of the largest logit.
            torch.testing.assert_close(logits, expected, rtol=0, atol=0.02 * float(expected.abs().max()))
        assert all(shared(made.base, batch, StopTokens(end_of_turn=(1,), pad=2)).values())
