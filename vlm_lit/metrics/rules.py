"""Metric rules: how one answer is counted, and what sums of such counts say.

A rule knows neither torch nor files, so that answers can be judged without loading either. Every metric is a sum over
items: mean scores, the F1 of a yes/no benchmark and the n-grams of BLEU alike. That is why no value can depend on
batches, order or ranks.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from types import MappingProxyType
from typing import ClassVar, Final, Literal, TypeAlias, get_args, get_origin, get_type_hints

from vlm_lit.errors import ConfigError, VlmLitError, nearest

Counts: TypeAlias = tuple[float, ...]
"""What one item adds to the sums. The first number is its score wherever the metric is a mean of scores."""


OPTION_KINDS: Final[Mapping[object, str]] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text",
}  # fmt: skip
"""What an option's value may be, besides one of a `Literal`'s, in words."""

_SAID_BOOLS: Final = {"true": True, "false": False}
_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer with all that judging it may take.

    `choices` are the texts of the options A, B, ... of a multiple choice question. `groups` are the breakdowns the
    item enters, for example `{"answer_type": "number"}`.
    """

    prediction: str
    references: Sequence[str]
    id: str = ""
    choices: Sequence[str] = ()
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule(ABC):
    """A metric's definition. A subclass is a frozen dataclass whose fields are its options, each with a default.

    Raises:
        ConfigError: an option's value is none of those it takes.
    """

    title: ClassVar[str]
    """The metric's name without its options."""

    columns: ClassVar[int] = 1
    """How many numbers `counts` returns."""

    is_score: ClassVar[bool] = True
    """Whether values are fractions in [0, 1] with an `overall` among them, as against counts of words."""

    higher_is_better: ClassVar[bool] = True
    """Whether a higher `overall` is a better one: what the best checkpoint, comparisons and studies go by."""

    higher_details: ClassVar[Mapping[str, bool]] = MappingProxyType({})
    """The same of those details that are better one way: `{"chair_i": False}`."""

    in_units: ClassVar[frozenset[str]] = frozenset()
    """Details of a score that are no fractions, such as a mean error: they are shown as they are, not as percent."""

    compares_details: ClassVar[bool] = False
    """Whether a comparison shows every detail with an interval, and not only those that are no means over items."""

    def __post_init__(self) -> None:
        for option, value in self.options.items():
            _check(self.title, option, value, _kinds(type(self))[option])

    @property
    def options(self) -> dict[str, object]:
        """Every option with its value."""
        return {option.name: getattr(self, option.name) for option in fields(self)}

    @property
    def name(self) -> str:
        """What reports call it: `title[option,...]` with every option that is not the default.

        No number loses its definition that way.
        """
        default = {option.name: option.default for option in fields(self)}
        chosen = [_spelled(option, value) for option, value in self.options.items() if value != default[option]]
        return f"{self.title}[{','.join(chosen)}]" if chosen else self.title

    @abstractmethod
    def counts(self, answer: Answer) -> Counts | None:
        """What an answer adds to the sums; None leaves the item out.

        Raises:
            VlmLitError: the item cannot be judged, for example without references.
        """

    def values(self, sums: Sequence[float], n: int) -> dict[str, float]:
        """What the sums of `n` items say: `overall` first, then details by name."""
        return {"overall": sums[0] / n}

    def unparsed(self, sums: Sequence[float]) -> int:
        """How many of the answers summed had no form that the metric understands."""
        return 0

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """The prediction and the references as this metric sees them when it compares; here, as they are."""
        return answer.prediction, answer.references

    def groups(self, answer: Answer) -> Mapping[str, str]:
        """The breakdowns an item enters: its own, and those that follow from them."""
        return answer.groups

    def across(self, breakdowns: Iterable[tuple[str, Mapping[str, float]]]) -> dict[str, float]:
        """What is reported over the parts of a breakdown, given each part's group and values."""
        return {}

    def score(self, answer: Answer) -> float | None:
        """One item's own `overall`, a fraction in [0, 1]; None if it has none, or is left out."""
        counts = self.counts(answer)
        return None if counts is None else self.score_of(counts)

    def score_of(self, counts: Counts) -> float | None:
        """The score of an item that was counted before."""
        return self.values(counts, 1).get("overall")


def counted(rule: Rule, answer: Answer) -> Counts | None:
    """What an answer adds to a rule's sums, or None; refused where a rule of the user's own is not as it says.

    Raises:
        ConfigError: there are other numbers than `columns` says.
        VlmLitError: as `Rule.counts`.
    """
    counts = rule.counts(answer)
    if counts is not None and not (isinstance(counts, tuple) and len(counts) == rule.columns):
        numbers = "number" if rule.columns == 1 else "numbers"
        raise ConfigError(
            f"{type(rule).__name__}.counts returned {counts!r}; it must be None or a tuple of {rule.columns} {numbers} "
            "(`columns` of the class)."
        )
    return counts


def column_sums(counts: Collection[Counts]) -> list[float]:
    """Adds items up. `math.fsum` rounds once, so that the order of the items cannot show."""
    return [math.fsum(column) for column in zip(*counts, strict=True)]


def judged(rule: Rule, counts: Collection[Counts]) -> dict[str, float]:
    """A rule's values over items, of which there must be one at least.

    Raises:
        ConfigError: the rule is a score, and gives none.
    """
    values = rule.values(column_sums(counts), len(counts))
    if rule.is_score and not -1e-9 <= values.get("overall", -1.0) <= 1 + 1e-9:
        raise ConfigError(
            f"{type(rule).__name__}.values returned {values}; a score has an `overall` in [0, 1]. Correct it, or set "
            "`is_score` of the class to False."
        )
    return values


def ratio(part: float, whole: float) -> float:
    """A share; nothing over nothing is 0."""
    return part / whole if whole else 0.0


def need_references(metric: str, references: Sequence[str]) -> None:
    """Refuses an item that nothing says the answer to.

    Raises:
        VlmLitError: there are no references.
    """
    if not references:
        raise VlmLitError(f"{metric} needs at least one reference answer, got none. Give the record its answers.")


def said_option(kind: type[Rule], option: str, text: str) -> object:
    """An option's value as a command line writes it, in the type that the metric declares.

    A text that writes no such value stays as it is, and the metric refuses it.
    """
    declared = _kinds(kind).get(option)
    if get_origin(declared) is Literal:
        return next((value for value in get_args(declared) if str(value) == text), text)
    if declared is bool:
        return _SAID_BOOLS.get(text.lower(), text)
    if declared in (int, float) and _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if declared is float and _DECIMAL.fullmatch(text) else text


def check_choice(metric: str, option: str, value: object, kind: object) -> None:
    """Refuses a value that is none of a `Literal`'s.

    Raises:
        ConfigError: it is none of them.
    """
    allowed = get_args(kind)
    if value not in allowed:
        near = nearest(str(value), map(str, allowed))
        hint = f" Did you mean {near}?" if near else ""
        raise ConfigError(f"{metric}: {option} is {value!r}; it must be one of {', '.join(map(str, allowed))}.{hint}")


def _check(metric: str, option: str, value: object, kind: object) -> None:
    if get_origin(kind) is Literal:
        check_choice(metric, option, value, kind)
    elif type(value) is not kind and not (kind is float and type(value) is int):  # True is an int to isinstance
        raise ConfigError(f"{metric}: {option} is {value!r}; it must be {OPTION_KINDS[kind]}.")


@cache
def _kinds(rule: type[Rule]) -> dict[str, object]:
    return get_type_hints(rule)


def _spelled(option: str, value: object) -> str:
    return option if value is True else f"{option}={str(value).lower() if value is False else value}"
