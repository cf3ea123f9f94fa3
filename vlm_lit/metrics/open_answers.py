"""Score of a free reply to one of MMMU's open questions.

Source of the definition: MMMU-Benchmark/MMMU, `mmmu/utils/eval_utils.py`, snapshot bb0b95a9, whose quirks are kept: a
reply is cut at line breaks only, and an answer counts that occurs anywhere in what is left of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from vlm_lit.metrics.rules import need_references

_Value: TypeAlias = str | float

_CONCLUSIONS: Final = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
"""What stands before an answer; in a reply's last line, an equals sign does as well."""

_MARKS: Final = tuple(":,.!?;'")
_NUMBERS: Final = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),  # 1,234,567
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),  # 1.5e-3
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),  # 12, 1.5, .5
)


def open_answer_score(prediction: str, references: Sequence[str]) -> float:
    """Returns 1.0 if one of the answers is found in a reply, else 0.0.

    What is looked at is the reply's lines from their last `is `, `answer `, ... on (the whole reply, where no line has
    any) and the numbers in it. A number has to be equal once both are rounded to two digits after the point; words have
    to occur, case aside.

    Args:
        prediction: the model's reply.
        references: the accepted answers.

    Raises:
        VlmLitError: there are no references.
    """
    need_references("MMMU accuracy", references)
    said = [value for text in _looked_at(prediction) for value in _values(text)]
    wanted = [value for reference in references for value in _values(reference)]
    return float(any(_meets(value, right) for right in wanted for value in said))


def _looked_at(reply: str) -> Iterator[str]:
    reply = reply.strip().strip(".").lower()
    conclusions = [found for found in _conclusions(reply.split("\n")) if found] or [reply]
    yield from conclusions
    for text in conclusions:
        for numbers in _NUMBERS:
            yield from numbers.findall(text)


def _conclusions(lines: Sequence[str]) -> Iterator[str]:
    """What each line concludes, the shortest of the ends that its words leave; empty where it concludes nothing."""
    for place, line in enumerate(lines, 1):
        words = (*_CONCLUSIONS, "=") if place == len(lines) else _CONCLUSIONS
        shortest = ""
        for end in (line.split(word)[-1].strip() for word in words if word in line):
            if not shortest or len(end) < len(shortest):  # an empty end gives way to the next, as in the original
                shortest = end
        yield "" if shortest in _MARKS else shortest


def _values(text: str) -> list[_Value]:
    """A number, or a text in lower case; one letter has a blank beside it, so that it is not met inside words."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _meets(said: _Value, wanted: _Value) -> bool:
    if isinstance(said, str):
        return isinstance(wanted, str) and wanted in said
    return said == wanted
