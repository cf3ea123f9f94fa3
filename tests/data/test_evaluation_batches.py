"""Tests of grouped prompts: questions about one picture together, each once, beside others that are as long."""

from __future__ import annotations

import pytest
import torch

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.answers.evaluation_batches import arranged, evaluation_batches
from vlm_lit.data.dealing import ItemCost
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.errors import RecordError
from vlm_lit.schema import EvaluationBatch

KEYS = ["a", "a", "a", "b", "b", None, None, "c", "c", "c", "c", "c", "a"]


def test_neighbours_that_show_the_same_are_not_parted() -> None:
    assert evaluation_batches(13, KEYS, 4) == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10], [11, 12]]


def test_what_fits_no_window_is_cut() -> None:
    assert evaluation_batches(13, KEYS, 2) == [[0, 1], [2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]


def test_where_nobody_knows_what_is_shown_windows_are_full() -> None:
    assert evaluation_batches(5, None, 2) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("most", [1, 3, 8, 64])
@pytest.mark.parametrize("world", [1, 3])
def test_every_question_is_asked_once_by_one_rank(most: int, world: int) -> None:
    shares = [evaluation_batches(13, KEYS, most, rank=rank, world=world) for rank in range(world)]
    assert sorted(i for batches in shares for batch in batches for i in batch) == list(range(13))
    for batches in shares:
        asked = [i for batch in batches for i in batch]
        assert asked == sorted(asked)
        assert all(0 < len(batch) <= most for batch in batches)


def test_questions_about_one_picture_stay_on_one_rank() -> None:
    shares = [evaluation_batches(13, KEYS, 8, rank=rank, world=2) for rank in range(2)]
    # By their number, since nobody says what they cost: 5, then 3, then 2 and the lone ones.
    assert shares == [[[5, 7, 8, 9, 10, 11, 12]], [[0, 1, 2, 3, 4, 6]]]


def test_those_of_one_picture_come_together_from_all_over_the_file() -> None:
    assert arranged(evaluation_batches(13, KEYS, 4), KEYS, 4) == [[0, 1, 2, 12], [3, 4, 5, 6], [7, 8, 9, 10], [11]]


def test_batches_hold_what_is_as_long_and_the_longest_come_first() -> None:
    costs = [ItemCost(words, images, 10 * images) for words, images in [(5, 1), (40, 1), (90, 0), (6, 1), (41, 1)]]
    batches = evaluation_batches(5, None, 2)
    assert batches == [[0, 1], [2, 3], [4]]
    assert arranged(batches, None, 2, costs) == [[4, 1], [3, 0], [2]]


@pytest.mark.parametrize("most", [1, 3, 8, 64])
def test_what_is_arranged_is_the_ranks_share_and_no_batch_is_too_large(most: int) -> None:
    costs = [ItemCost((7 * i) % 5, i % 3) for i in range(13)]
    for rank in range(3):
        share = evaluation_batches(13, KEYS, most, rank=rank, world=3)
        found = arranged(share, KEYS, most, costs)
        assert sorted(i for batch in found for i in batch) == [i for batch in share for i in batch]
        assert all(0 < len(batch) <= most for batch in found)


@pytest.fixture(scope="module")
def encoder() -> ConversationEncoder:
    return encoder_of(TINY["llava"].build(0)[1])


TALKS = [*cases.about_one_picture(1, 0, questions=3), cases.conversation(0, 1, 2), cases.conversation(1, 1, 9)]


def test_prompts_about_one_picture_share_a_row_and_their_order_is_kept(encoder: ConversationEncoder) -> None:
    batch = PromptCollator(encoder, OverLengthPolicy(encoder, None, "error"), packing=True)(TALKS)
    assert isinstance(batch, EvaluationBatch)
    text, pictured = batch.batches
    assert batch.ids == [talk.id for talk in TALKS]
    assert [c.id for c in text.conversations] == [TALKS[3].id]
    assert text.segments is not None
    assert not bool(text.segments.any())
    assert pictured.segments is not None
    # Conversations stand in the order of rows, then of segments: the lone question first, since its row is shorter.
    assert [c.id for c in pictured.conversations] == [TALKS[i].id for i in (4, 0, 1, 2)]
    assert pictured.segments.amax(1).tolist() == [0, 3]
    assert len(pictured.inputs["pixel_values"]) == 2
    assert all(ref.pixels is None for c in pictured.conversations for ref in c.images)


def test_a_row_reads_as_its_questions_do_alone(encoder: ConversationEncoder) -> None:
    (batch,) = cases.prompts(encoder, TALKS[:3], packing=True)
    assert batch.segments is not None
    for k, talk in enumerate(TALKS[:3], 1):
        (alone,) = cases.prompts(encoder, [talk], packing=False)
        seen = (batch.segments[0] == 0) | (batch.segments[0] == k)
        assert torch.equal(batch.inputs["input_ids"][0][seen], alone.inputs["input_ids"][0])


def test_prompts_that_are_too_long_get_rows_of_their_own_and_the_policy(encoder: ConversationEncoder) -> None:
    longest = max(cases.prompts(encoder, [t], packing=False)[0].inputs["input_ids"].shape[1] for t in TALKS[:3])
    shared = PromptCollator(encoder, OverLengthPolicy(encoder, longest, "error"), packing=True)(TALKS[:3])
    assert isinstance(shared, EvaluationBatch)
    # What they share a row for is no reason to refuse: the limit is for a conversation.
    assert shared.batches[0].inputs["input_ids"].shape[1] > longest
    refused = PromptCollator(encoder, OverLengthPolicy(encoder, longest - 1, "error"), packing=True)(TALKS[:3])
    assert isinstance(refused, RecordError)
    trimmed = PromptCollator(encoder, OverLengthPolicy(encoder, longest - 1, "trim_text"), packing=True)(TALKS[:3])
    assert isinstance(trimmed, EvaluationBatch)
    (batch,) = trimmed.batches
    assert batch.segments is None
    assert batch.inputs["input_ids"].shape[1] <= longest - 1
