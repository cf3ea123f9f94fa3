"""Check that a question shows its options, where the answer is a letter or a number that stands for one of them."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from vlm_lit.data.conversations.choices import ANSWER_INDEX, CHOICES, option_texts
from vlm_lit.data.conversations.question_prompt import fields_of
from vlm_lit.data.conversations.record_forms import ANSWER_KEYS, OTHER_ANSWER_KEYS
from vlm_lit.data.conversations.refusals import refusal
from vlm_lit.files.list_text import written_list
from vlm_lit.schema import Record, Turn

OPTION_KEYS: Final = (
    CHOICES, "options", "option", "choice", "candidates", "answer_choices", "multiple_choices", "mc_options",
)  # fmt: skip
"""What data sets call the options of a question."""

_MARK: Final = re.compile(r"\(?([A-Z]|[0-9]{1,2})[).:]?")
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_SHOW: Final = f'Put them into the prompt, for example prompt: "{{question}}\\n{{{CHOICES}}}"'
_MARKUP: Final = re.compile(r"<[^<>]*>")  # `<image 1>`: an option that is a picture


def refuse_hidden_options(record: Record, prompt: str | None, turns: Sequence[Turn], answers: Sequence[str]) -> None:
    """Refuse a question that is answered by the letter or number of an option that nobody is shown.

    There is nothing to learn in it. A number counts options from 0 or from 1; one that an option says is an answer.

    Args:
        record: the row, its options under `choices` or another of `OPTION_KEYS`.
        prompt: the template that the question was written by; None where the record has turns of its own.
        turns: the conversation.
        answers: its accepted answers.

    Raises:
        RecordError: the options' texts are not in the prompt.
    """
    marks = [found[1] for found in map(_MARK.fullmatch, answers) if found is not None]
    if not marks or len(marks) < len(answers):
        return
    said = _words(" ".join(turn.text for turn in turns if turn.role != "assistant"))
    for key, texts in _options(record):
        if not set(marks) <= _marks_of(texts) or set(answers) & set(texts) or key in fields_of(prompt or ""):
            continue
        if all(_words(_MARKUP.sub("", text)) in said for text in texts):
            continue
        kind = "number" if marks[0].isdecimal() else "letter"
        raise refusal(
            record,
            f"its answer is the {kind} {marks[0]}, and the prompt does not show the {len(texts)} options that "
            f"{key!r} holds",
            remedy=_letter_remedy(key) if kind == "letter" else _number_remedy(record, key, answers[0], len(texts)),
            code="hidden_options",
        )


def _marks_of(texts: Sequence[str]) -> set[str]:
    """What may stand for an option: its letter, or its number where no option says that number."""
    said = {float(number) for text in texts for number in _NUMBER.findall(text)}
    numbers = {str(number) for number in range(len(texts) + 1) if number not in said}
    return {*string.ascii_uppercase[: len(texts)], *numbers}


def _letter_remedy(key: str) -> str:
    named = "" if key == CHOICES else f", and name their column: columns: {{{CHOICES}: {key}}}"
    return f"{_SHOW}{named}."


def _number_remedy(record: Record, key: str, answer: str, count: int) -> str:
    """How to have a number learned as the letter of its option, as far as it is known to count from 0."""
    from_zero = answer.isdecimal() and int(answer) < count
    held = [name for name in (*OTHER_ANSWER_KEYS, *ANSWER_KEYS) if str(record.fields.get(name)) == answer]
    columns = {} if key == CHOICES else {CHOICES: key}
    if held and from_zero:
        columns[ANSWER_INDEX] = held[0]
    listed = ", ".join(f"{ours}: {theirs}" for ours, theirs in columns.items())
    named = f", and name the columns: columns: {{{listed}}}" if columns else ""
    return (
        f"{_SHOW}{named}. {ANSWER_INDEX} counts from 0: where this number counts from 1, write the right option's "
        f"letter or text instead. If it is no option's number, name {key} in ignore_keys."
    )


def _options(record: Record) -> Iterator[tuple[str, list[str]]]:
    """Each field that holds two options or more, as texts: a list, one that is written as text, or an object."""
    for key in OPTION_KEYS:
        value = record.fields.get(key)
        value = written_list(value) or value
        texts = option_texts(value)
        if texts is None and isinstance(value, Mapping):  # by other names than letters
            texts = option_texts(list(value.values()))
        if texts is not None and len(texts) > 1:
            yield key, list(texts)


def _words(text: str) -> str:
    return " ".join(text.casefold().split())
