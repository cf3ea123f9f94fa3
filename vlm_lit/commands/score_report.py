"""Report of the verb `score`: a metric's summary of a file of answers, as the JSON that is written and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from vlm_lit.commands.filed_rows import FiledAnswer
from vlm_lit.errors import VlmLitError, printable
from vlm_lit.metrics.basis import NearMisses, ReferenceCounts, near_misses, reference_counts
from vlm_lit.metrics.rules import Rule
from vlm_lit.metrics.summary import MetricSummary, ScorePart, judged_item, summarised


@dataclass(frozen=True)
class ScoreReport:
    """What a metric says about a file of answers, and what that rests on.

    `image_ids` name the image of each judged item that has one.
    """

    summary: MetricSummary
    references: ReferenceCounts | None
    misses: NearMisses
    image_ids: Mapping[str, str]

    def as_json(self) -> dict[str, object]:
        """The report as it is written: overall, details and groups in percent (errors in units), items as fractions."""
        found = self.summary
        groups = {
            group: {value: {"score": self._score(part), "n": part.n} for value, part in parts.items()}
            for group, parts in found.groups.items()
        }
        return {
            "metric": found.rule.name,
            "options": found.rule.options,
            "overall": self._score(found.whole),
            "details": self._details(),
            "groups": groups,
            "n": found.whole.n,
            "unparsed": found.unparsed,
            "references": None if self.references is None else asdict(self.references),
            "misses": asdict(self.misses),
            "per_item": found.scores,
            "image_ids": self.image_ids,
        }

    def as_text(self) -> str:
        """The report as a table, and what has to be said about it below."""
        found, is_score = self.summary, self.summary.rule.is_score
        rows = [("overall", found.whole), *self._parts()] if is_score else []
        lines = [(name, f"{part.n:,}", f"{self._score(part):.2f}") for name, part in rows]
        lines += [(name, "", f"{value:.2f}") for name, value in self._details().items()]
        name = found.rule.name
        width = max(len(first) for first, *_ in [(name,), *lines])
        whole = [(name, "n", "%" if is_score else ""), *lines]
        table = [f"{first:<{width}}  {n:>9}  {value:>8}" for first, n, value in whole]
        notes = [f"{found.unparsed:,} unparsed"] if found.unparsed else []
        notes += [f"Not in percent: {', '.join(sorted(found.rule.in_units))}"] if found.rule.in_units else []
        notes += [f"{found.left_out:,} left out by this metric"] if found.left_out else []
        notes += filter(None, [self.misses.as_text(name)])
        return "\n".join(printable(line.rstrip()) for line in [*table, *notes])

    def _parts(self) -> list[tuple[str, ScorePart]]:
        groups = self.summary.groups
        return [(f"{group}/{value}", part) for group, parts in groups.items() for value, part in parts.items()]

    def _details(self) -> dict[str, float]:
        parts = [("", self.summary.whole), *((f"{name}/", part) for name, part in self._parts())]
        return {
            f"{prefix}{name}": value if name in self.summary.rule.in_units else self._shown(value)
            for prefix, part in parts
            for name, value in part.values.items()
            if name != "overall"
        }

    def _score(self, part: ScorePart) -> float | None:
        return self._shown(part.values["overall"]) if self.summary.rule.is_score else None

    def _shown(self, value: float) -> float:
        # Ten digits after the point: 55.0 rather than 55.00000000000001.
        return round(100 * value, 10) if self.summary.rule.is_score else value


def report_of(chosen: Rule, filed: Sequence[FiledAnswer]) -> ScoreReport:
    """Judges a file's answers.

    Raises:
        VlmLitError: an item cannot be judged, or none is left; names it.
    """
    items = [judged_item(chosen, item.answer, f"{item.file}, record {item.record}") for item in filed]
    kept = [item for item, judged in zip(filed, items, strict=True) if judged.counts is not None]
    if not kept:
        raise VlmLitError(f"{chosen.name} leaves out all {len(filed):,} items. Give others, or use another metric.")
    found = summarised(chosen, items)
    answers = [item.answer for item in kept]
    return ScoreReport(
        summary=found,
        references=reference_counts(answer.references for answer in answers),
        misses=near_misses((a.prediction, a.references, found.scores.get(a.id)) for a in answers)
        if chosen.higher_is_better
        else NearMisses(),
        image_ids={item.answer.id: item.image_id for item in kept if item.image_id is not None},
    )
