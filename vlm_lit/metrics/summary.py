"""Summary of a set of answers by a metric: its value over all of them and over each breakdown, and what was counted.

Whoever judges goes through here: an evaluation over all its ranks, `score` over a file, a metric over its state. Each
answer is judged once, to the few numbers that it adds to the metric's sums; these travel and are added up, never the
words. Knows neither torch nor files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.rules import Answer, Counts, Rule, column_sums, counted, judged


@dataclass(frozen=True, slots=True)
class JudgedItem:
    """An item as a rule has judged it.

    `counts` are what it adds to the rule's sums, None where the rule leaves it out. `groups` are the breakdowns it
    enters: pairs of a group and its value in it.
    """

    id: str
    counts: Counts | None
    groups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ScorePart:
    """Judged items: how many, and the rule's values over them, as fractions (words, where the rule is no score)."""

    n: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class MetricSummary:
    """What a metric says about a set of answers.

    `groups` are by group, then value, both in order. `scores` are fractions by id, in the order of first sight, of the
    items that have one. `unparsed` counts the answers of no form that the metric understands, `left_out` the items
    that it does not judge.
    """

    rule: Rule
    whole: ScorePart
    groups: Mapping[str, Mapping[str, ScorePart]]
    scores: Mapping[str, float]
    unparsed: int
    left_out: int

    def by_name(self) -> dict[str, float]:
        """Every value: `overall` and details, then every `group/value` by name, with its details behind it."""
        parts = {f"{group}/{value}": part for group, found in self.groups.items() for value, part in found.items()}
        inside = {_key(name, detail): v for name in sorted(parts) for detail, v in parts[name].values.items()}
        return {**self.whole.values, **inside}


def judged_item(rule: Rule, answer: Answer, place: str) -> JudgedItem:
    """An answer judged by one rule.

    Args:
        rule: the metric.
        answer: what is judged.
        place: what an error message calls the record.

    Raises:
        VlmLitError: the item cannot be judged; names it.
        ConfigError: a rule of the user's own is not as it says.
    """
    try:
        counts = counted(rule, answer)
    except ConfigError:
        raise
    except VlmLitError as error:
        raise VlmLitError(f"{place}: {error}") from error
    return JudgedItem(answer.id, counts, () if counts is None else tuple(rule.groups(answer).items()))


def summarised(rule: Rule, items: Iterable[JudgedItem]) -> MetricSummary:
    """A rule's values over judged items; an id met again is the same item met again, and counts once.

    Raises:
        VlmLitError: there are no items, or one id came with two judgements.
    """
    unique = _each_once(rule, items)
    kept = [(item, item.counts) for item in unique.values() if item.counts is not None]
    if not kept:
        raise VlmLitError(f"{rule.name} has no items to average. Check that the evaluated split is not empty.")
    members: dict[str, dict[str, list[Counts]]] = {}
    for item, counts in kept:
        for group, value in item.groups:
            members.setdefault(group, {}).setdefault(value, []).append(counts)
    groups = {group: {v: _part(rule, found[v]) for v in sorted(found)} for group, found in sorted(members.items())}
    everything = [counts for _, counts in kept]
    across = rule.across((group, part.values) for group, parts in groups.items() for part in parts.values())
    whole = _part(rule, everything)
    scores = ((item.id, rule.score_of(counts)) for item, counts in kept)
    return MetricSummary(
        rule=rule,
        whole=ScorePart(whole.n, {**whole.values, **across}),
        groups=groups,
        scores={id_: score for id_, score in scores if score is not None},
        unparsed=rule.unparsed(column_sums(everything)),
        left_out=len(unique) - len(kept),
    )


def _each_once(rule: Rule, items: Iterable[JudgedItem]) -> dict[str, JudgedItem]:
    unique: dict[str, JudgedItem] = {}
    for item in items:
        first = unique.setdefault(item.id, item)
        if first.counts != item.counts:
            raise VlmLitError(
                f"{rule.name}: the id {item.id!r} came twice, judged {_shown(first.counts)} and then "
                f"{_shown(item.counts)}. Give every record an id of its own; if they are one record, its answer was "
                "not reproducible."
            )
    return unique


def _part(rule: Rule, counts: Sequence[Counts]) -> ScorePart:
    return ScorePart(len(counts), judged(rule, counts))


def _key(group: str, value: str) -> str:
    return group if value == "overall" else f"{group}/{value}"


def _shown(counts: Counts | None) -> str:
    return "nothing" if counts is None else ", ".join(map(str, counts))
