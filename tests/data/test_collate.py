"""Tests of the collators: rows of one batch have equally many images, and questions keep their order."""

import pytest

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.schema import EvaluationBatch, StepBatch

TALKS = [cases.conversation(images, 1, seed) for seed, images in enumerate([1, 0, 2, 1, 1, 0, 1])]


@pytest.fixture(scope="module")
def made() -> tuple[ConversationEncoder, OverLengthPolicy]:
    encoder = encoder_of(TINY["llava"].build(0)[1])
    return encoder, OverLengthPolicy(encoder, None, "error")


def test_micro_batches_hold_rows_of_equally_many_images(made: tuple[ConversationEncoder, OverLengthPolicy]) -> None:
    step_batch = StepCollator(*made, 3)(TALKS)
    assert isinstance(step_batch, StepBatch)
    counts = {talk.id: len(talk.images) for talk in TALKS}
    assert [sorted({counts[name] for name in batch.ids}) for batch in step_batch.micro_batches] == [[0], [1], [1], [2]]
    assert sorted(step_batch.ids) == sorted(counts)


def test_prompts_are_grouped_and_their_order_is_kept(made: tuple[ConversationEncoder, OverLengthPolicy]) -> None:
    step_batch = PromptCollator(*made)(TALKS)
    assert isinstance(step_batch, EvaluationBatch)
    assert [len(batch.conversations) for batch in step_batch.batches] == [2, 4, 1]
    assert step_batch.ids == [talk.id for talk in TALKS]
    assert {c.id for batch in step_batch.batches for c in batch.conversations} == set(step_batch.ids)
    assert all(ref.pixels is None for batch in step_batch.batches for c in batch.conversations for ref in c.images)
