"""Numbers read from answers: digits, written numbers, fractions, and the unit behind them.

Read are `3`, `-2.5`, `1,234,567`, `1,5` (a comma before other than three digits is a decimal one), `1e-3`, `1/2`,
`2 1/2`, `-½`, `57 %`, `$5`, `3.2M`, `twenty-one`, `two hundred and five`, `a dozen`, `half`, `two thirds`, `three and a
quarter`. Digits within a word (`B3`, `LMP-7`) are no number. README.md has worked examples.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final

from vlm_lit.metrics.units import converted, unit_behind

_TENS: Final = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_VALUES: Final = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, **_TENS,
}  # fmt: skip
_SCALES: Final = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_PARTS: Final = {"half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4}
"""What may stand behind a written number and "and a"."""
_DENOMINATORS: Final = {
    "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
    "twelfth": 12, "sixteenth": 16, "twentieth": 20, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
"""`second` is not among them: one second is a time."""
_NOTHING: Final = frozenset({"no", "none", "nothing"})
"""Words that count as 0 where an answer holds no other number."""

_SHORT_SCALES: Final = {"k": 1000, "m": 10**6, "b": 10**9, "bn": 10**9}
_GLUED: Final = re.compile(r"([kKMB]|bn)(?!\w)")
"""Scales that a chart's axis writes right behind the digits: `5k`, `3.2M`, `1.4B`."""
_APART: Final = re.compile(r"\s(?:(?i:(hundred|thousand|million|billion)\b|(bn)(?![\w-]))|(k)(?![\w-]))")
_APART_OF_MONEY: Final = re.compile(r"\s([KMB])(?![\w-])")
"""Scales behind a blank. `10 K` may be kelvins and `5 M` a size: these are read behind a currency's sign alone."""
_CURRENCIES: Final = frozenset("$\u20ac\u00a3\u00a5")
_LARGEST: Final = 1e100
_MOST_LETTERS: Final = 100
"""How large a number may be, and how long: digits without end are a model that repeats itself, and no number."""

_GROUPED: Final = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_RAISED: Final = re.compile(r"(?<=\d)[\u207b\u207a]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]")
_MINUS: Final = re.compile(r"\b(?:minus|negative)\s+(?=[\w.$])", re.IGNORECASE)
_MINUS_BEFORE_SIGN: Final = re.compile(r"-([$\u20ac\u00a3\u00a5])(?=[\d.])")
_POWER: Final = re.compile(
    r"(?<![\w.,])(?:(?P<times>-?\d+(?:\.\d+)?)\s*[x\u00d7*]\s*)?10\^(?P<power>[-+]?\d{1,3})(?!\w)"
)
"""What is written otherwise by people who set type: 12 000 with a narrow space, 10³, minus five, -$5."""

_DOTTED: Final = r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}"  # 1.234,5 and 12.000.000
_DIGITS: Final = (
    rf"(?:{_DOTTED})(?![\d.,]*\d)"
    r"|\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|(?<!\d,)\d+,\d+(?![\d,])|\d+(?:\.\d+)?|\.\d+"
)
_NUMBER: Final = re.compile(
    rf"(?<![\w.,])(?P<sign>[-+](?!\s))?(?:(?P<whole>\d+)\s+)?(?P<top>\d+)\s*/\s*(?P<bottom>\d+)(?![\w/])"
    rf"|(?<![\w.])(?<![A-Za-z]-)(?P<minus>(?<![\w)])[-+](?=[\d.]))?(?P<digits>{_DIGITS})(?!\.\d)(?P<power>[eE][-+]?\d{{1,3}})?"
    r"(?=$|[^\w]|(?P<unit>[a-zA-Z\u03bc]{1,7}|[cmk]?m[23])(?![\w]))"
)
_SAID_FRACTION: Final = re.compile(
    rf"\b(?:({'|'.join(_TENS)})[ -])?({'|'.join(_VALUES)})[ -]({'|'.join(_DENOMINATORS)})(s?)\b", re.IGNORECASE
)
_BEFORE_FRACTION: Final = frozenset("-+\u2212\u2013") | _CURRENCIES
"""Signs, which no blank may part from their number."""
_WORD: Final = re.compile(r"[a-z]+(?:-[a-z]+)*")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and the unit behind it, in lower case; empty where it has none that is known."""

    value: float
    unit: str = ""

    def in_unit_of(self, other: Quantity) -> float | None:
        """The number in another's unit; as it is where either has none, None where the two measure different things."""
        return converted(self.value, self.unit, other.unit)


def quantities(text: str) -> list[Quantity]:
    """The numbers of a text in their order; 0 for one that says none, no or nothing and holds no number.

    A `one` beside other numbers is taken for a pronoun, as in "the red one reads 3".
    """
    text = _plain(text)
    found = sorted([*_in_digits(text), *_in_words(text)], key=lambda item: item[0])
    values = [(quantity, is_one) for _, quantity, is_one in found if abs(quantity.value) <= _LARGEST]
    if any(not is_one for _, is_one in values):
        values = [(quantity, is_one) for quantity, is_one in values if not is_one]
    if values:
        return [quantity for quantity, _ in values]
    return [Quantity(0.0)] if _NOTHING & set(_WORD.findall(text.lower())) else []


def _plain(text: str) -> str:
    """Signs, powers and fractions as ASCII writes them: `2½` is `2 1/2`, `10³` is `1e3`, a dash a hyphen."""
    text = _GROUPED.sub("", text)
    parted = (f" {c}" if _is_vulgar(c) and before not in _BEFORE_FRACTION else c for before, c in pairwise(f" {text}"))
    apart = "".join(parted)
    raised = unicodedata.normalize("NFKC", _RAISED.sub(r"^\g<0>", apart))
    text = re.sub("[\N{MINUS SIGN}\N{EN DASH}]", "-", raised).replace("\N{FRACTION SLASH}", "/")
    text = _SAID_FRACTION.sub(_fraction, text)
    text = _MINUS.sub("-", _MINUS_BEFORE_SIGN.sub(r"\1-", text))
    return _POWER.sub(lambda match: f"{match['times'] or 1}e{match['power']}", text)


def _is_vulgar(character: str) -> bool:
    return unicodedata.decomposition(character).startswith("<fraction>")


def _fraction(said: re.Match[str]) -> str:
    """`2/3` of "two thirds"; "two third graders" stay as they are."""
    top = _TENS.get((said[1] or "").lower(), 0) + _VALUES[said[2].lower()]
    return f"{top}/{_DENOMINATORS[said[3].lower()]}" if bool(said[4]) == (top != 1) else said[0]


def _scale_behind(text: str, match: re.Match[str]) -> re.Match[str] | None:
    """The scale behind a number in digits."""
    end = match.end()
    is_money = text[: match.start()].rstrip()[-1:] in _CURRENCIES
    of_money = _APART_OF_MONEY.match(text, end) if is_money else None
    return _APART.match(text, end) or _GLUED.match(text, end) or of_money


def _in_digits(text: str) -> Iterator[tuple[int, Quantity, bool]]:
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            scale = _scale_behind(text, match)
            if scale:
                value *= {**_SCALES, **_SHORT_SCALES}[scale[0].strip().lower()]
            yield match.start(), Quantity(value, unit_behind(text, scale.end() if scale else match.end())), False


def _value(match: re.Match[str]) -> float | None:
    if len(match[0]) > _MOST_LETTERS:
        return None
    if match["bottom"] is not None:
        if not int(match["bottom"]):
            return None
        parts = Fraction(int(match["whole"] or 0)) + Fraction(int(match["top"]), int(match["bottom"]))
        return float(-parts if match["sign"] == "-" else parts)
    digits: str = match["digits"]
    if re.fullmatch(_DOTTED, digits):
        digits = digits.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"\d+,\d+", digits) and not re.fullmatch(r"\d{1,3},\d{3}", digits):
        digits = digits.replace(",", ".")
    value = float(digits.replace(",", "") + (match["power"] or ""))
    return -value if match["minus"] == "-" else value


def _in_words(text: str) -> Iterator[tuple[int, Quantity, bool]]:
    """Written numbers, each as far as its words make one: "five and six" are two, "two hundred and five" is one."""
    said: _Written | None = None
    for match in _WORD.finditer(text.lower()):
        for word, start in _parts(match):
            if word in ("a", "and"):  # looked at with the word behind them
                continue
            if said is not None and said.takes(word, text[said.end : start]):
                said.add(word, start + len(word))
            else:
                if said is not None:
                    yield said.start, _signed(said, text), said.is_one
                behind_digits = word in _SCALES and text[:start].rstrip(" ")[-1:].isdigit()  # read with them
                said = _Written(word, start) if _is_number(word) and not behind_digits else None
    if said is not None:
        yield said.start, _signed(said, text), said.is_one


def _signed(said: _Written, text: str) -> Quantity:
    below = text[: said.start].endswith("-") and not text[: said.start - 1][-1:].isalnum()
    return Quantity(-said.value if below else said.value, unit_behind(text, said.end))


def _parts(match: re.Match[str]) -> Iterator[tuple[str, int]]:
    """A word, or the words that hyphens join, each with its offset; "a" and "and" belong to what stands behind them."""
    at = match.start()
    for word in match[0].split("-"):
        yield word, at
        at += len(word) + 1


def _is_number(word: str) -> bool:
    return word in _VALUES or word in _SCALES or word in ("half", "dozen")


class _Written:
    """A written number, word by word: `total` of its thousands, `current` of what stands behind them."""

    def __init__(self, word: str, start: int) -> None:
        self.start = self.end = start
        self.total = self.current = 0.0
        self.words: list[str] = []
        self.add(word, start + len(word))

    @property
    def value(self) -> float:
        """What it says so far."""
        return self.total + self.current

    @property
    def is_one(self) -> bool:
        """Whether it is the word `one` alone."""
        return self.words == ["one"]

    def takes(self, word: str, between: str) -> bool:
        """Whether a word behind it goes on with it; `between` is what stands between them."""
        last = self.words[-1]
        after_thousands = last in _SCALES and last != "hundred"
        link = between.replace(",", " ") if after_thousands else between  # one thousand, one hundred
        linked = link.strip(" -") in ("", "and", "a", "and a")
        if linked and word in _PARTS:
            return last not in _PARTS and between.split() == ["and", "a"]
        if not linked or not _is_number(word):
            return False
        if word == "dozen":
            return len(self.words) == 1 and self.current < 20
        if word in _SCALES:
            return last not in _PARTS and last != "dozen"
        if last in _SCALES:
            return "a" not in between.split() and (last == "hundred" or _VALUES[word] > 0)
        return between.strip(" -") == "" and last in _TENS and 0 < _VALUES[word] < 10

    def add(self, word: str, end: int) -> None:
        """Take a word in."""
        if word in _SCALES:
            self.current = (self.current or 1.0) * _SCALES[word]
            if _SCALES[word] >= 1000:
                self.total, self.current = self.total + self.current, 0.0
        elif word == "dozen":
            self.current = (self.current or 1.0) * 12
        else:
            self.current += _PARTS[word] if word in _PARTS else _VALUES[word]
        self.words.append(word)
        self.end = end
