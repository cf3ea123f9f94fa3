"""Tests of the over-length policies: each does what was asked, images and answers stay whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from PIL import Image

from tests.support import tiny_models
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.masking import Transcript
from vlm_lit.data.rows.over_length import OverLength, OverLengthPolicy
from vlm_lit.data.rows.prompt_collate import encode_fitting
from vlm_lit.errors import RecordError
from vlm_lit.schema import IGNORE_INDEX, IMAGE, Conversation, StepBatch, TokenBatch, Turn

ENCODER = Encoder(Transcript(tiny_models.llava_processor()))
PICTURE = tiny_models.picture(0)


def talk(name: str, question: str) -> Conversation:
    turns = (Turn(role="user", content=(IMAGE, question)), Turn(role="assistant", content=("red blue",)))
    return Conversation(id=name, turns=turns, images=(), file="data.json", record=name)


SHORT, LONG = talk("short", "what?"), talk("long", "how many tools are there? " * 6)


def fit(
    policy: OverLength, *, most: int, rows: Sequence[Conversation] = (SHORT, LONG)
) -> tuple[TokenBatch | None, StepBatch]:
    step_batch = StepBatch()
    decoded: list[tuple[Conversation, list[Image.Image]]] = [(c, [PICTURE]) for c in rows]
    batch = encode_fitting(ENCODER, OverLengthPolicy(ENCODER, most, policy), decoded, step_batch, side="right")
    return batch, step_batch


def test_error_names_the_record_both_lengths_and_the_policies() -> None:
    with pytest.raises(RecordError, match=r"data\.json, record long: .* tokens and max_length is 30.*trim_text"):
        fit("error", most=30)


def test_drop_leaves_it_out_and_says_so() -> None:
    batch, step_batch = fit("drop", most=30)
    assert batch is not None
    assert batch.ids == ["short"]
    assert step_batch.dropped == ["long"]
    assert fit("drop", most=30, rows=[LONG])[0] is None


def test_trim_text_keeps_image_and_answer() -> None:
    batch, step_batch = fit("trim_text", most=30)
    assert batch is not None
    assert step_batch.changed == ["long"]
    assert batch.ids == ["short", "long"]
    row = batch.inputs["input_ids"][1]
    assert 25 <= int(batch.inputs["attention_mask"][1].sum()) <= 30
    assert int((row == ENCODER.processor.image_token_id).sum()) == 4
    labels = batch.labels[1]
    assert ENCODER.tokenizer.decode(labels[labels != IGNORE_INDEX]).strip() == "red blue</s>"


def test_trim_text_keeps_the_letters_before_its_cut() -> None:
    question = " now:\n\nA. red\n\tB.  blue\n    what colour is it of these ones?"
    turns = (Turn(role="user", content=("Look at ", IMAGE, " and \n", IMAGE, question)), SHORT.turns[1])
    whole = Conversation(id="a", turns=turns, images=())
    pictures = [PICTURE, PICTURE]
    most = ENCODER.encode([whole], [pictures], side="right").lengths[0] - 3
    fitted = OverLengthPolicy(ENCODER, most, "trim_text").apply(whole, pictures)
    assert fitted is not None
    *kept, last = fitted[0].turns[0].content
    assert kept == list(turns[0].content[:-1])
    assert isinstance(last, str)
    assert question.startswith(last)
    assert "blue\n    what" in last
    assert last == last.rstrip()
    assert question[len(last)].isspace()


def test_trim_text_leaves_no_words_behind_its_cut() -> None:
    turns = (Turn(role="user", content=("what colour ", IMAGE, " is it of these? " * 9)), SHORT.turns[1])
    fitted = OverLengthPolicy(ENCODER, 16, "trim_text").apply(replace(SHORT, turns=turns), [PICTURE])
    assert fitted is not None
    assert fitted[0].turns[0].content in (("what", IMAGE, ""), ("what colour", IMAGE, ""))


def test_trimming_everything_is_not_enough() -> None:
    with pytest.raises(RecordError, match="Trimming the longest question is not enough"):
        fit("trim_text", most=12)


def test_shrinking_says_why_it_cannot_help() -> None:
    with pytest.raises(RecordError, match="gives every image the same number of tokens"):
        fit("shrink_image", most=30)


def test_what_fits_is_left_alone() -> None:
    batch, step_batch = fit("error", most=500)
    assert batch is not None
    assert step_batch == StepBatch()
