"""Tests of conversations that are long in one way or another: control strings by the thousand, words by the million."""

from __future__ import annotations

import pytest

from tests.support import tiny_models
from tests.support.talks import answer, user
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.escapes import _MORE_PRIVATE, _PRIVATE
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, Turn

EVERY = "".join(map(chr, _PRIVATE))


@pytest.fixture(scope="module")
def encoder() -> ConversationEncoder:
    return encoder_of(tiny_models.llava_processor())


def length(encoder: ConversationEncoder, *turns: Turn) -> int:
    conversation = Conversation(id="c", turns=turns, images=(), file="data.json", record="7")
    (found,) = encoder.text_lengths([conversation], for_generation=False)
    if isinstance(found, RecordError):
        raise found
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("typed", ["<image>", "<image> ", "a <image>", "<image></s>", "</s>\n"])
def test_thousands_of_control_strings(typed: str, encoder: ConversationEncoder) -> None:
    few, more, most = (length(encoder, user(typed * n), answer("x")) for n in (10, 20, 6400))
    assert most == few + (more - few) * 639


@pytest.mark.timeout(120)  # by the square of their number they would take an hour
def test_their_time_grows_as_they_do(encoder: ConversationEncoder) -> None:
    assert length(encoder, user("<image>" * 64_000), answer("x")) > 64_000


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_question_of_a_million_characters(encoder: ConversationEncoder) -> None:
    assert length(encoder, user("word " * 200_000), answer("x")) > 200_000
    assert length(encoder, user("q"), answer("word " * 200_000)) > 200_000


@pytest.mark.timeout(120)
def test_two_hundred_turns(encoder: ConversationEncoder) -> None:
    turns = [turn for _ in range(100) for turn in (user("what </s> is it?"), answer("a cat"))]
    assert length(encoder, *turns) > 200


@pytest.mark.timeout(120)
@pytest.mark.parametrize("held", [EVERY, EVERY[:-1], EVERY[1:]])
def test_a_text_that_holds_the_private_characters(held: str, encoder: ConversationEncoder) -> None:
    assert length(encoder, user(held + "<image></s>"), answer("x")) > len(held)


@pytest.mark.timeout(120)
def test_a_text_that_holds_them_all_names_its_record(encoder: ConversationEncoder) -> None:
    held = EVERY + "".join(map(chr, _MORE_PRIVATE))
    with pytest.raises(
        RecordError, match=r"data.json, record 7: it holds a control string .* Take the private"
    ) as found:
        length(encoder, user(held + "<image>"), answer("x"))
    assert found.value.code == "template.private"
