"""Tests of units, which are never parted, and of what a collator does once: rendering, decoding, processing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.support import family_cases as cases
from tests.support import tiny_models
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows import collate
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.masking import Transcript
from vlm_lit.data.rows.over_length import OverLength, OverLengthPolicy
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.data.rows.row_groups import joined
from vlm_lit.errors import RecordError
from vlm_lit.schema import IMAGE, Conversation, EvaluationBatch, ImageRef, StepBatch, TokenBatch, Turn

LONG = "and why do you think that it is so, in all the words that you have for it?"


def pair(
    name: int, question: str = "what is it?", answers: tuple[str, str] = ("red", "no, blue")
) -> list[Conversation]:
    """Two answers to one question about one picture, of which the second is longer."""
    (first, *_) = cases.about_one_picture(1, name)
    asked = Turn(role="user", content=(IMAGE, question))
    return [
        replace(first, id=f"{name}{side}", turns=(asked, Turn(role="assistant", content=(said,))))
        for side, said in zip("ab", answers, strict=True)
    ]


def collated(
    family: str,
    units: list[list[Conversation]],
    *,
    packing: bool = True,
    rows: int = 8,
    micro_tokens: int | None = None,
    max_length: int | None = None,
    policy: OverLength = "error",
) -> StepBatch:
    encoder = encoder_of(TINY[family].build(0)[1])
    limits = OverLengthPolicy(encoder, max_length, policy)
    return StepCollator(encoder, limits, rows, packing=packing, micro_tokens=micro_tokens).collate(units)


def together(step_batch: StepBatch) -> None:
    """Each pair stands in one micro-batch."""
    for batch in step_batch.micro_batches:
        assert all(count == 2 for count in Counter(name[:-1] for name in batch.ids).values()), batch.ids


@pytest.mark.parametrize(
    ("family", "packing"),
    [("llava", True), ("llava", False), ("paligemma", True), ("mllama", False), ("gemma3", False)],
)
@pytest.mark.parametrize(("rows", "micro_tokens"), [(1, None), (2, None), (3, None), (8, 20), (8, 100)])
def test_a_unit_is_never_parted(family: str, packing: bool, rows: int, micro_tokens: int | None) -> None:
    units = [pair(seed) for seed in range(4)]
    found = collated(family, units, packing=packing, rows=rows, micro_tokens=micro_tokens)
    assert sorted(found.ids) == sorted(c.id for unit in units for c in unit)
    together(found)
    assert len(found.micro_batches) > 1 or rows == 8
    shared = family == "llava" and packing
    assert all((batch.segments is not None) == shared for batch in found.micro_batches)
    assert found.weight == sum(batch.weight for batch in found.micro_batches)


def lengths(step_batch: StepBatch) -> dict[str, int]:
    return {name: n for batch in step_batch.micro_batches for name, n in zip(batch.ids, batch.lengths, strict=True)}


@pytest.mark.parametrize("packing", [True, False])
def test_the_policy_drops_a_unit_whole(packing: bool) -> None:
    units = [pair(0), pair(1, answers=("red", LONG)), pair(2)]
    short, long = lengths(collated("llava", units))["0b"], lengths(collated("llava", units))["1b"]
    found = collated("llava", units, packing=packing, max_length=long - 1, policy="drop")
    assert found.dropped == ["1a", "1b"]
    assert sorted(found.ids) == ["0a", "0b", "2a", "2b"]
    assert short < long
    together(found)


def test_the_policy_trims_a_unit_to_one_question() -> None:
    unit = pair(1, question=f"what is it? {LONG}")
    longest = lengths(collated("llava", [unit]))["1b"]
    found = collated("llava", [unit], max_length=longest - 4, policy="trim_text")
    assert found.changed == ["1a", "1b"]
    (batch,) = found.micro_batches
    assert batch.segments is not None or batch.labels.shape[0] == 2
    assert max(batch.lengths) <= longest - 4
    assert batch.lengths[1] - batch.lengths[0] == longest - lengths(collated("llava", [unit]))["1a"]
    together(found)


def test_a_unit_too_long_for_a_row_has_a_row_each_in_one_micro_batch() -> None:
    unit = pair(1, answers=("red " * 12, "blue " * 12))
    found = collated("llava", [unit])
    longest = max(lengths(found).values())
    assert found.micro_batches[0].labels.shape[1] > longest
    apart = collated("llava", [unit, pair(2)], max_length=longest)
    assert apart.dropped == apart.changed == []
    (batch,) = [b for b in apart.micro_batches if "1a" in b.ids]
    assert batch.labels.shape[1] <= longest
    assert len(batch.inputs["pixel_values"]) == len(batch.labels)
    together(apart)


# What is done once ---------------------------------------------------------------------------------------------------


@contextmanager
def counted(owner: object, name: str) -> Iterator[list[Any]]:
    """The first arguments that a function is really called with in the meantime."""
    really: Callable[..., object] = getattr(owner, name)
    calls: list[Any] = []

    def counting(*arguments: Any, **options: Any) -> object:
        calls.append(arguments)
        return really(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counting)
        yield calls


TALKS = [talk for seed in range(6) for talk in cases.about_one_picture(1, seed, questions=1 + seed % 3)]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("micro_tokens", [None, 40, 150])
def test_a_conversation_is_rendered_once_and_its_image_decoded_and_processed_once(
    packing: bool, micro_tokens: int | None
) -> None:
    encoder = encoder_of(TINY["llava"].build(0)[1])
    assert isinstance(encoder, Encoder)
    collator = StepCollator(
        encoder, OverLengthPolicy(encoder, None, "error"), 8, packing=packing, micro_tokens=micro_tokens
    )
    with (
        counted(Transcript, "render") as rendered,
        counted(collate, "load_images") as decoded,
        counted(encoder.processor, "_process_images") as processed,
    ):
        found = collator(TALKS)
    assert isinstance(found, StepBatch)
    assert micro_tokens is None or len(found.micro_batches) > 2
    assert len(rendered) == len(TALKS) == len({arguments[1].id for arguments in rendered})
    shown = {talk.images[0].digest for talk in TALKS}
    assert len(decoded) == (len(shown) if packing else len(TALKS))
    calls = [len(group) for (images, *_) in processed for group in images]
    assert sum(calls) == len(decoded)


def test_a_prompt_is_rendered_once() -> None:
    encoder = encoder_of(TINY["llava"].build(0)[1])
    with counted(Transcript, "render") as rendered:
        found = PromptCollator(encoder, OverLengthPolicy(encoder, None, "error"), packing=True)(TALKS)
    assert isinstance(found, EvaluationBatch)
    assert len(rendered) == len(TALKS)


# Rows that were processed alone --------------------------------------------------------------------------------------

SIZES = [(40, 30), (64, 64), (90, 31), (33, 120), (28, 28), (200, 28)]


def of_sizes(images: int) -> list[Conversation]:
    talks = []
    for k in range(len(SIZES)):
        pictures = [tiny_models.picture(k + j).resize(SIZES[(k + j) % len(SIZES)]) for j in range(images)]
        refs = tuple(ImageRef(pixels=picture) for picture in pictures)
        asked = Turn(role="user", content=(*(IMAGE,) * images, "what is it?" + " so" * k))
        talks.append(Conversation(id=str(k), turns=(asked, Turn(role="assistant", content=("red",))), images=refs))
    return talks


def image_fields(encoder: ConversationEncoder, talks: list[Conversation]) -> dict[str, torch.Tensor]:
    batch: TokenBatch = cases.encode(encoder, talks)
    return {name: value for name, value in batch.inputs.items() if value.shape[:2] != batch.labels.shape}


@pytest.mark.parametrize("family", sorted(TINY))
@pytest.mark.parametrize("images", [1, 2])
def test_images_processed_row_by_row_are_those_processed_together(family: str, images: int) -> None:
    if images not in TINY[family].images:
        pytest.skip("the family does not take so many")
    encoder, talks = encoder_of(TINY[family].build(0)[1]), of_sizes(images)
    whole = image_fields(encoder, talks)
    alone = joined([image_fields(encoder, [talk]) for talk in talks])
    assert whole.keys() == alone.keys() != set()
    for name, value in whole.items():
        assert value.dtype == alone[name].dtype
        assert torch.equal(value, alone[name]), name


def test_a_bad_record_is_named() -> None:
    encoder = encoder_of(TINY["llava"].build(0)[1])
    bad = replace(TALKS[0], images=(ImageRef(data=b"no image"),), file="a.json", record="3")
    for micro_tokens in (None, 40):
        collator = StepCollator(encoder, OverLengthPolicy(encoder, None, "error"), 8, micro_tokens=micro_tokens)
        found = collator([*TALKS[1:], bad])
        assert isinstance(found, RecordError)
        assert "a.json, record 3" in str(found)
    assert load_images(TALKS[0])
