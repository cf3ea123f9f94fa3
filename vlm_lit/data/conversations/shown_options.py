"""Check that a multiple choice question shows its options, where the answer is a letter that stands for one of them."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from vlm_lit.data.conversations.choices import CHOICES, option_texts
from vlm_lit.data.conversations.question_prompt import fields_of
from vlm_lit.data.conversations.refusals import refusal
from vlm_lit.files.list_text import written_list
from vlm_lit.schema import Record, Turn

OPTION_KEYS: Final = (
    CHOICES, "options", "option", "choice", "candidates", "answer_choices", "multiple_choices", "mc_options",
)  # fmt: skip
"""What data sets call the options of a question."""

_LETTER: Final = re.compile(r"\(?([A-Z])[).:]?")
_MARKUP: Final = re.compile(r"<[^<>]*>")  # `<image 1>`: an option that is a picture


def refuse_hidden_options(record: Record, prompt: str | None, turns: Sequence[Turn], answers: Sequence[str]) -> None:
    """Refuse a question that is answered by a letter whose options nobody is shown: there is nothing to learn in it.

    Args:
        record: the row, its options under `choices` or another of `OPTION_KEYS`.
        prompt: the template that the question was written by; None where the record has turns of its own.
        turns: the conversation.
        answers: its accepted answers.

    Raises:
        RecordError: the options' texts are not in the prompt.
    """
    letters = [found[1] for found in map(_LETTER.fullmatch, answers) if found is not None]
    if not letters or len(letters) < len(answers):
        return
    said = _words(" ".join(turn.text for turn in turns if turn.role != "assistant"))
    for key, texts in _options(record):
        named = set(letters) <= set(string.ascii_uppercase[: len(texts)])
        if not named or set(answers) & set(texts) or key in fields_of(prompt or ""):
            continue
        if all(_words(_MARKUP.sub("", text)) in said for text in texts):
            continue
        named_by = "" if key == CHOICES else f", and name their column: columns: {{{CHOICES}: {key}}}"
        raise refusal(
            record,
            f"its answer is the letter {letters[0]}, and the prompt does not show the {len(texts)} options that "
            f"{key!r} holds",
            remedy=f'Put them into the prompt, for example prompt: "{{question}}\\n{{{CHOICES}}}"{named_by}.',
            code="hidden_options",
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
