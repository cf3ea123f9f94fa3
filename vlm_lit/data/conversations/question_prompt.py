"""Prompt templates: the words of a question's user turn, made from a record's fields.

Fields are written `{name}`, or `{name|words}` with the words to use where the field is empty, or a number that is NaN
or infinite. A list is written with commas, `{choices}` as lines `A. red`.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Final, TypeAlias

from vlm_lit.data.conversations.choices import CHOICES, MOST_CHOICES, as_lines, choices_of
from vlm_lit.data.conversations.refusals import refusal, words
from vlm_lit.schema import Record

DEFAULT_PROMPT: Final = "{question}"

Piece: TypeAlias = tuple[str, str | None, str | None, str | None]
"""Literal text, and the field behind it with its format and conversion (`string.Formatter.parse`)."""


def fields_of(prompt: str) -> frozenset[str]:
    """Every field that a template names; none of a template that cannot be read."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None]
    except ValueError:
        return frozenset()
    return frozenset([*names, *(name.partition("|")[0] for name in names)])


def pieces_of(record: Record, prompt: str) -> Sequence[Piece]:
    """Cut a template such as `"{question}\\nAnswer with one word."` at its fields.

    Only plain names are understood: `str.format` would also follow `{question.__class__}` into the program.

    Raises:
        RecordError: it is no template.
    """
    try:
        return list(string.Formatter().parse(prompt))
    except ValueError as error:
        remedy = "Write {field} for a field and {{ or }} for a brace."
        raise refusal(record, f"the prompt {prompt!r}: {error}", remedy=remedy, code="prompt_template") from None


def filled(record: Record, pieces: Sequence[Piece]) -> str:
    """The template with the record's fields in it.

    Raises:
        RecordError: a field that is not there, is empty, or is no text.
    """
    return "".join(literal + _filled(record, name, spec, how) for literal, name, spec, how in pieces)


def _filled(record: Record, name: str | None, spec: str | None, conversion: str | None) -> str:
    if name is None:
        return ""
    if spec or conversion:
        remedy = f"Write {{{name}}} alone."
        raise refusal(record, f"the prompt formats the field {name!r}", remedy=remedy, code="prompt_template")
    key, bar, substitute = (name, "", "") if name in record.fields else name.partition("|")
    if key not in record.fields:
        remedy = f"Its fields are {', '.join(map(repr, record.fields))}."
        raise refusal(record, f"the prompt names an unknown field {key!r}", remedy=remedy, code="prompt_field")
    value = (choices_of(record) if key == CHOICES else ()) or record.fields[key]
    unknown = isinstance(value, float) and not math.isfinite(value)  # so tables write a number that they do not have
    if isinstance(value, int | float) and not isinstance(value, bool) and not unknown:
        return str(value)
    if isinstance(value, list | tuple) and key != "answers":  # a list of these would give the answer away
        value = _listed(record, key, value)
    text = "" if value is None or unknown else words(record, value, f"the field {key!r} of the prompt")
    if not text.strip() and not bar:
        remedy = f"Fill it in, take the record out, or say in the prompt what stands for it: {{{key}|unknown}}."
        problem = f"the field {key!r} of the prompt is {value if unknown else 'empty'}"
        raise refusal(record, problem, remedy=remedy, code="prompt_empty")
    return text if text.strip() else substitute


def _listed(record: Record, key: str, values: Sequence[object]) -> str:
    texts = [words(record, value, f"entry {i} of the field {key!r} of the prompt") for i, value in enumerate(values)]
    if key == CHOICES and len(texts) > MOST_CHOICES:
        remedy = f"Letters name {MOST_CHOICES} at most: leave some out."
        raise refusal(record, f"{len(texts)} choices", remedy=remedy, code="choices")
    return as_lines(texts) if key == CHOICES else ", ".join(texts)
