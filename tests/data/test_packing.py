"""Tests of shared-image packing: what a shared row holds, and which conversations may share one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.grouping import grouped
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.over_length import OverLength, OverLengthPolicy
from vlm_lit.data.rows.packing import image_key, likely_longest, size_of
from vlm_lit.data.rows.shared_rows import SharedRowEncoder
from vlm_lit.models.attention import visible
from vlm_lit.schema import IGNORE_INDEX, Conversation, StepBatch, Turn


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    made = encoder_of(TINY["llava"].build(0)[1])
    assert isinstance(made, Encoder)
    return made


def step_batch(
    encoder: Encoder,
    talks: list[Conversation],
    *,
    max_length: int | None = None,
    policy: OverLength = "error",
    micro_batch: int = 8,
    micro_tokens: int | None = None,
) -> StepBatch:
    collator = StepCollator(
        encoder, OverLengthPolicy(encoder, max_length, policy), micro_batch, packing=True, micro_tokens=micro_tokens
    )
    found = collator(talks)
    assert isinstance(found, StepBatch), found
    return found


def test_the_image_stands_once_and_every_question_is_there(encoder: Encoder) -> None:
    talks = cases.about_one_picture(1)
    (batch,) = step_batch(encoder, talks).micro_batches
    assert int((batch.inputs["input_ids"] == encoder.processor.image_token_id).sum()) == 4  # one image's tokens
    assert len(batch.inputs["pixel_values"]) == 1
    assert batch.ids == [talk.id for talk in talks]
    said = ["".join(encoder.tokenizer.decode(run[:-1])).strip() for run in cases.runs(batch, 0)]
    assert said == [turn.text for talk in talks for turn in talk.turns if turn.role == "assistant"]


@pytest.mark.parametrize("family", [name for name in TINY if name != "paligemma"])
def test_questions_about_the_same_pictures_have_the_rows_they_have_alone(family: str) -> None:
    made = encoder_of(TINY[family].build(0)[1])
    assert isinstance(made, Encoder)
    written = [made.write(talk) for talk in cases.about_one_picture(max(TINY[family].images))]
    images = load_images(written[0].conversation)
    together, _ = made.rows_alike(written, images)
    for row, one in zip(together, written, strict=True):
        (alone,), _, _ = made.rows([one], [images])
        assert row.supervised == alone.supervised
        assert {name: value.tolist() for name, value in row.fields.items()} == {
            name: value.tolist() for name, value in alone.fields.items()
        }


def test_no_segment_begins_with_a_supervised_token(encoder: Encoder) -> None:
    # The same question with two answers: their rows begin alike up to the answer.
    first = cases.about_one_picture(1)[0]
    second = replace(first, id="other", turns=(first.turns[0], Turn(role="assistant", content=("seven",))))
    (batch,) = step_batch(encoder, [first, second]).micro_batches
    assert batch.segments is not None
    segments = batch.segments[0]
    begins = torch.cat([torch.tensor([False]), segments[1:] != segments[:-1]])
    assert int(begins.sum()) == 2
    assert (batch.labels[0][begins] == IGNORE_INDEX).all()


def test_only_the_same_images_after_the_same_words_share(encoder: Encoder) -> None:
    shared = SharedRowEncoder(encoder)

    def key(talk: Conversation) -> tuple[str, str] | None:
        return shared.key(encoder.write(talk))

    one, other = cases.about_one_picture(1)[:2]
    assert key(one) == key(other) is not None
    assert key(cases.about_one_picture(1, seed=5)[0]) != key(one)
    spoken = replace(one, turns=(Turn(role="system", content=("be short",)), *one.turns))
    assert key(spoken) != key(one)
    typed = replace(one, turns=(replace(one.turns[0], content=(*one.turns[0].content, "</s>")), *one.turns[1:]))
    assert key(typed) is None
    assert key(cases.conversation(0, 1)) is None
    assert image_key(cases.conversation(1, 1)) is None  # pixels that no name tells apart


def test_a_row_too_long_to_share_is_divided(encoder: Encoder) -> None:
    talks = cases.about_one_picture(1)
    whole = step_batch(encoder, talks)
    alone = max(whole.micro_batches[0].lengths)
    divided = step_batch(encoder, talks, max_length=alone)
    assert sorted(divided.ids) == sorted(whole.ids)
    assert all(batch.inputs["input_ids"].shape[1] <= alone for batch in divided.micro_batches)
    assert len(divided.micro_batches) > 1
    assert divided.supervised_tokens == whole.supervised_tokens
    assert divided.dropped == divided.changed == []


def test_the_policy_meets_the_conversation_that_is_too_long_and_no_other(encoder: Encoder) -> None:
    talks = cases.about_one_picture(1)
    lengths = dict(zip(*(lambda b: (b.ids, b.lengths))(step_batch(encoder, talks).micro_batches[0]), strict=True))
    longest = max(lengths, key=lambda name: lengths[name])
    found = step_batch(encoder, talks, max_length=lengths[longest] - 1, policy="drop")
    assert found.dropped == [longest]
    assert sorted(found.ids) == sorted(set(lengths) - {longest})


def test_micro_batches_keep_to_their_tokens(encoder: Encoder) -> None:
    talks = [talk for seed in range(6) for talk in cases.about_one_picture(1, seed, questions=1 + seed % 3)]
    free = step_batch(encoder, talks)
    bound = step_batch(encoder, talks, micro_tokens=150)
    assert max(batch.inputs["input_ids"].numel() for batch in free.micro_batches) > 150
    for batch in bound.micro_batches:
        assert batch.inputs["input_ids"].numel() <= 150 or len(batch.labels) == 1
    assert sorted(free.ids) == sorted(bound.ids)


def test_who_sees_whom() -> None:
    segments = torch.tensor([[0, 0, 1, 1, 2, 0]])
    valid = torch.tensor([[True] * 5 + [False]])
    seen = visible(segments, valid)[0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],  # padding: sees what it sees, is seen by none, and is never empty
    ]


def test_groups_keep_their_order_and_the_keyless_stand_alone() -> None:
    talks = [cases.conversation(0, 1, seed) for seed in range(5)]
    assert grouped(talks, ["a", None, "b", "a", None]) == [[talks[0], talks[3]], [talks[1]], [talks[2]], [talks[4]]]


def test_the_longest_rows_are_those_of_most_words() -> None:
    talks = [talk for seed in range(3) for talk in cases.about_one_picture(1, seed, questions=1 + seed)]
    found = likely_longest([size_of(talk) for talk in talks], [image_key(talk) for talk in talks], 8, 1)
    assert found == [3, 4, 5]
