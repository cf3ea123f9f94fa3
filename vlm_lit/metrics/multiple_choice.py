"""Multiple-choice accuracy: the option that a reply means, and whether it is the right one.

How a letter is got out of a reply moves published numbers by several points, so the extractor is an option of its own.
Sources of the definitions: MMMU-Benchmark/MMMU, `mmmu/utils/eval_utils.py`, snapshot bb0b95a9, and LLaVA's
`eval_science_qa.py`, snapshot c121f043.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Final, Literal

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.rules import Answer, Counts, Rule, check_choice, need_references

Extractor = Literal["mmmu", "scienceqa_llava"]
Fallback = Literal["wrong", "random"]

LETTERS: Final = string.ascii_uppercase
DEFAULT_LETTERS: Final = "ABCDE"
"""What the letters are where nothing says how many options a question has."""

_MMMU_MARKS: Final = ",.!?;:'"
_MMMU_ENOUGH_WORDS: Final = 5
_THE_ANSWER_IS: Final = re.compile("The answer is ([A-Z]).")  # the dot is any character, in the original as well


def extracted_letter(prediction: str, choices: Sequence[str] = (), *, extractor: Extractor = "mmmu") -> str | None:
    """Returns the letter that a reply means, or None where it means none.

    `mmmu` looks for letters in brackets, else for letters standing alone, else, in replies of more than five words,
    for the options' texts; of several, the one that occurs last. `scienceqa_llava` takes a bare letter A to E, a reply
    that begins with such a letter, a full stop and a blank, or the one letter after `The answer is`.

    Args:
        prediction: the model's reply.
        choices: the texts of the options A, B, ...; without them the letters are A to E, and no text can be met.
        extractor: `mmmu` or `scienceqa_llava`.

    Raises:
        ConfigError: the extractor is unknown.
    """
    check_choice("multiple_choice", "extractor", extractor, Extractor)
    return _EXTRACTORS[extractor](prediction, choices)


def letters_of(choices: Sequence[str]) -> str:
    """The letters of a question's options."""
    return LETTERS[: len(choices)] if choices else DEFAULT_LETTERS


def _mmmu(reply: str, choices: Sequence[str]) -> str | None:
    for mark in _MMMU_MARKS:  # in this order and once each, so that `.,` loses its comma only
        reply = reply.strip(mark)
    reply = f" {reply} "
    letters = letters_of(choices)
    in_brackets = {letter: reply.rfind(f"({letter})") for letter in letters}
    alone = {letter: reply.rfind(f" {letter} ") for letter in letters}
    return _last(in_brackets) or _last(alone) or _last(_texts(reply, choices))


def _texts(reply: str, choices: Sequence[str]) -> dict[str, int]:
    if len(reply.split()) <= _MMMU_ENOUGH_WORDS:
        return {}
    return {letter: reply.lower().rfind(text.lower()) for letter, text in zip(LETTERS, choices, strict=False)}


def _last(positions: dict[str, int]) -> str | None:
    """The letter found furthest right; of those at one place, the first."""
    letter = max(positions, key=lambda found: positions[found], default=None)
    return letter if letter is not None and positions[letter] >= 0 else None


def _scienceqa_llava(reply: str, choices: Sequence[str]) -> str | None:  # noqa: ARG001 - it never looks at them
    if reply in DEFAULT_LETTERS and len(reply) == 1:
        return reply
    if reply[:1] in DEFAULT_LETTERS and reply[1:3] == ". ":
        return reply[0]
    found = _THE_ANSWER_IS.findall(reply)
    return str(found[0]) if len(found) == 1 else None


_EXTRACTORS: Final[dict[str, Callable[[str, Sequence[str]], str | None]]] = {
    "mmmu": _mmmu,
    "scienceqa_llava": _scienceqa_llava,
}


@dataclass(frozen=True)
class MultipleChoiceAccuracy(Rule):
    """The share of replies that mean the right letter, and of those that mean none; overall and per group.

    An item's reference is the right letter.

    Args:
        extractor: see `extracted_letter`.
        fallback: what a reply counts that means no letter: `wrong`, or `random`, a letter drawn at random as MMMU's
            evaluator does. It counts as unparsed either way.
        seed: what the draws follow from, together with the item's id, so that they don't depend on the order.

    Raises:
        ConfigError: an option is unknown, or there is a seed although nothing is drawn.
    """

    title: ClassVar[str] = "multiple_choice"
    columns: ClassVar[int] = 2

    extractor: Extractor = "mmmu"
    fallback: Fallback = "wrong"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed and self.fallback != "random":
            raise ConfigError(f"{self.title}: seed has no effect without fallback random. Set both, or neither.")

    @property
    def name(self) -> str:
        """What reports call it; the extractor is named always, for there is no agreed one."""
        plain = super().name
        options = plain.removeprefix(self.title).strip("[]")
        stated = [] if "extractor=" in options else [f"extractor={self.extractor}"]
        return f"{self.title}[{','.join([*stated, *filter(None, [options])])}]"

    def counts(self, answer: Answer) -> Counts:
        """Right and unparsed, each 0 or 1."""
        right = _right_letter(answer)
        letter = self._letter(answer)
        chosen = self._drawn(answer) if letter is None and self.fallback == "random" else letter
        return float(chosen == right), float(letter is None)

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """The letters; a reply that means none, as it is, even where one is drawn for it."""
        return self._letter(answer) or answer.prediction, [_right_letter(answer)]

    def values(self, sums: Sequence[float], n: int) -> dict[str, float]:
        """The accuracy and the share of unparsed replies."""
        return {"overall": sums[0] / n, "unparsed": sums[1] / n}

    def unparsed(self, sums: Sequence[float]) -> int:
        """How many replies meant no letter."""
        return int(sums[1])

    def _letter(self, answer: Answer) -> str | None:
        return extracted_letter(answer.prediction, answer.choices, extractor=self.extractor)

    def _drawn(self, answer: Answer) -> str:
        letters = letters_of(answer.choices)
        digest = blake2b(f"{self.seed}/{answer.id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return letters[int.from_bytes(digest, "big") % len(letters)]


def _right_letter(answer: Answer) -> str:
    need_references("Multiple choice", answer.references)
    letters = letters_of(answer.choices)
    if len(answer.choices) > len(LETTERS):
        raise VlmLitError(f"A question with {len(answer.choices)} choices has more than there are letters.")
    right, *others = answer.references
    if others or len(right) != 1 or right not in letters:
        given = f"{len(answer.choices)} choices" if answer.choices else "no choices"
        raise VlmLitError(
            f"Multiple choice needs one letter of {letters} as the reference, got {list(answer.references)} with "
            f"{given}. Write the right option's letter, and the options as choices."
        )
    return right
