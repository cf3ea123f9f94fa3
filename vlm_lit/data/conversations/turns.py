"""Reading of a record's turns, for each accepted form of record.

Every form gives a `Draft`: turns with their image slots, and the images those slots stand for. Whether the turns make
sense together is judged afterwards, in `conversations.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from vlm_lit.data.conversations.json_texts import listed
from vlm_lit.data.conversations.numbered_images import numbered_columns
from vlm_lit.data.conversations.placeholders import IMAGE_PLACEHOLDER
from vlm_lit.data.conversations.question_prompt import DEFAULT_PROMPT, fields_of, filled, pieces_of
from vlm_lit.data.conversations.record_forms import ACCEPTED_FORMS, Formed
from vlm_lit.data.conversations.record_images import IMAGE_NAME, images_under, record_images
from vlm_lit.data.conversations.refusals import empty, refusal, refuse_unfilled, shown, words
from vlm_lit.data.conversations.slots import (
    Draft,
    Placeholders,
    Typed,
    WrittenTurn,
    brings_images,
    image_ref,
    with_places,
)
from vlm_lit.data.conversations.turn_entries import written_turns
from vlm_lit.data.conversations.turn_flags import with_record_flags
from vlm_lit.schema import ImageRef, Note, Record

SYSTEM_KEYS: Final = ("system", "system_prompt", "system_message")
HISTORY_KEY: Final = "history"


def draft(formed: Formed, prompt: str | None, placeholders: Placeholders = "slots") -> Draft:
    """Read the turns of a record. A question's answer is not among them.

    Args:
        formed: the record in its form.
        prompt: template of a question's user turn; see `question_prompt.py`. Without `{question}` in it, the record
            needs no question.
        placeholders: whether placeholders in users' words are places of images, or words like any other.

    Of a record with `image_1`, `image_2`, ... and no other images, `<image 2>` is the place of `image_2`; one that is
    not named is not shown. Where none is named by its number, `<image>` and image parts show them in their order.

    Raises:
        RecordError: no accepted form, or a part of it has the wrong shape.
    """
    record = formed.record
    notes: list[Note] = []
    always = formed.always_slots
    if formed.turns is not None:
        if not empty(record.fields.get(HISTORY_KEY)):
            remedy = f"Put the earlier turns into {formed.turns}, or name history in ignore_keys."
            raise refusal(record, f"both {formed.turns} and history", remedy=remedy, code="ambiguous")
        written = written_turns(record, record.fields[formed.turns], formed.turns, notes)
    else:
        template = DEFAULT_PROMPT if prompt is None else prompt
        text = "" if formed.caption else _question(record, template)
        record = _without(record, fields_of(template))
        written = [*_history(record, notes), WrittenTurn(role="user", parts=[Typed(text)])]
        always = text.strip().startswith(IMAGE_PLACEHOLDER) or text.strip().endswith(IMAGE_PLACEHOLDER)
    written = with_record_flags(record, _with_system(record, written))
    images = _images(formed, written)
    found = with_places(record, written, images, always=always, placeholders=placeholders)
    return Draft(turns=found.turns, images=found.images, notes=(*found.notes, *notes))


def _images(formed: Formed, written: Sequence[WrittenTurn]) -> Sequence[ImageRef] | Mapping[int, ImageRef]:
    """The record's own images, by number where they are columns."""
    record = formed.record
    if columns := numbered_columns(record):
        return {number: image_ref(record, record.fields[key], key) for number, key in columns.items()}
    images = record_images(record)
    if images or IMAGE_NAME in formed.used or brings_images(written):
        return images
    return images_under(record, IMAGE_NAME)


def _without(record: Record, fields: frozenset[str]) -> Record:
    """The record without what the template has used: its `weight` is a product's."""
    kept = {key: value for key, value in record.fields.items() if key not in fields}
    return replace(record, fields=kept)


def _with_system(record: Record, written: Sequence[WrittenTurn]) -> list[WrittenTurn]:
    """The turns after the record's own system message."""
    found = {key: value for key in SYSTEM_KEYS if not empty(value := record.fields.get(key))}
    texts = {words(record, value, key) for key, value in found.items()}
    if written and written[0].role == "system" and found:
        texts.add("".join(part for part in written[0].parts if isinstance(part, str)))
    if len(texts) > 1:
        problem = f"two system messages: {' and '.join(found)}{' and a turn' if len(found) == 1 else ''}"
        raise refusal(record, problem, remedy="Keep one of them.", code="ambiguous")
    if not texts or not found or (written and written[0].role == "system"):
        return list(written)
    return [WrittenTurn(role="system", parts=[*texts]), *written]


def _history(record: Record, notes: list[Note]) -> list[WrittenTurn]:
    """Earlier questions and answers: `[[question, answer], ...]`, or messages."""
    history = _as_list(record, HISTORY_KEY)
    if history and all(isinstance(entry, Mapping) for entry in history):
        return written_turns(record, history, HISTORY_KEY, notes)
    turns: list[WrittenTurn] = []
    for k, pair in enumerate(history):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            problem = f"history {k} is {shown(pair)}, not a question with its answer"
            raise refusal(record, problem, remedy="Write [[question, answer], ...].", code="turns_type")
        asked, answered = (words(record, text, f"history {k}") for text in pair)
        turns += [WrittenTurn(role="user", parts=[Typed(asked)]), WrittenTurn(role="assistant", parts=[answered])]
    return turns


def _as_list(record: Record, key: str) -> Sequence[object]:
    value = listed(record, key)
    if empty(value):
        return ()
    if not isinstance(value, list | tuple):
        raise refusal(record, f"{key} is {shown(value)}", remedy="Write a list.", code="turns_type")
    return value


def _question(record: Record, prompt: str) -> str:
    pieces = pieces_of(record, prompt)
    asks = any(name == "question" for _, name, _, _ in pieces)
    if asks:
        _check_question(record)
    text = filled(record, pieces)
    if not asks and record.fields.get("question") is not None:
        remedy = "Put {question} into it, or rename the field by the setting `columns` if it is not to be asked."
        raise refusal(record, "the prompt leaves out the question", remedy=remedy, code="prompt_question")
    return text


def _check_question(record: Record) -> None:
    if record.fields.get("question") is None and "question" not in record.fields:
        keys = ", ".join(map(repr, record.fields)) or "none"
        raise refusal(record, f"no form to read it by; its keys are {keys}", remedy=ACCEPTED_FORMS, code="form")
    question = record.fields["question"]
    text = "" if question is None else words(record, question, "the question")
    if not text.strip():
        raise refusal(record, "the question is empty", remedy="Write one, or take the record out.", code="empty_turn")
    refuse_unfilled(record, text)
