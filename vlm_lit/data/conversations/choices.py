"""Options of multiple-choice questions: how they are shown, and the letter of the right one.

`choices` are the options' texts in order. Data sets say which of them is right by its position, as a number
(ScienceQA, A-OKVQA) or as a number in quotes (AI2D); `answer_index` holds it here. What a model answers is the letter.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Final

from vlm_lit.errors import RecordError
from vlm_lit.schema import Record

CHOICES: Final = "choices"
ANSWER_INDEX: Final = "answer_index"
MOST_CHOICES: Final = len(string.ascii_uppercase)


def as_lines(options: Sequence[str]) -> str:
    """`A. red`, `B. green`, ..., a line each, as LLaVA's prompts show options; `MOST_CHOICES` at most."""
    return "\n".join(f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, options, strict=False))


def choices_of(record: Record) -> tuple[str, ...]:
    """The options' texts; none for a record without a list of texts under `choices`."""
    choices = record.fields.get(CHOICES)
    if not isinstance(choices, list | tuple) or not all(isinstance(text, str) for text in choices):
        return ()
    return tuple(choices)


def with_lettered_choices(record: Record) -> Record:
    """The record with its options under `choices`, where fields A, B, ... hold them as in VLMEvalKit's tables."""
    if record.fields.get(CHOICES) is not None or not all(isinstance(record.fields.get(key), str) for key in "AB"):
        return record
    texts = takewhile(lambda text: isinstance(text, str), map(record.fields.get, string.ascii_uppercase))
    return replace(record, fields={**record.fields, CHOICES: list(texts)})


def right_letter(record: Record) -> str | None:
    """The letter that `answer_index` stands for; None for a record that has no such field.

    Raises:
        RecordError: there are no choices, or the index is none of them.
    """
    index, choices = record.fields.get(ANSWER_INDEX), record.fields.get(CHOICES)
    if index is None:
        return None
    position = int(index) if isinstance(index, str) and index.isdecimal() else index
    count = min(len(choices), MOST_CHOICES) if isinstance(choices, list | tuple) else 0
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < count:
        raise RecordError(
            f"{ANSWER_INDEX} is {index!r} where there are {count} choices with letters",
            remedy=f"Give the options as a list under {CHOICES}, and count from 0 which of them is right.",
            file=record.file,
            record=record.name,
            code="conversation.answer_index",
        )
    return string.ascii_uppercase[position]
