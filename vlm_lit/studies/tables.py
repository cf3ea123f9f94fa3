"""Did tuning help, question by question, as a table one can read in a terminal?"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlm_lit.schema import Prediction, VlmLitError
from vlm_lit.studies.statistics import Interval, PairedDifference, mean_interval, paired_difference

BREAKDOWNS: Final = ("answer_type", "question_type")


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """Two systems on the same `n` items; `base` and `tuned` are mean scores, fractions in [0, 1].

    `intervals` are those of base, tuned, and tuned - base; None where all items show one image.
    """

    name: str
    n: int
    base: float
    tuned: float
    intervals: tuple[Interval, Interval, PairedDifference] | None


def read_predictions(path: Path | str) -> list[Prediction]:
    """Reads a run's `predictions.jsonl`: one JSON object a line, with exactly the fields of `Prediction`.

    Raises:
        VlmLitError: the file cannot be read, is empty, or a line is broken or repeats an id; names file and line.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise VlmLitError(f"{path}: cannot be read ({error.strerror}). Give the predictions.jsonl of a run.") from error
    first_line: dict[str, int] = {}
    predictions = [_parsed(line, where=f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    for number, prediction in enumerate(predictions, 1):
        if first_line.setdefault(prediction.id, number) != number:
            first = first_line[prediction.id]
            raise VlmLitError(f"{path}, line {number}: the id {prediction.id!r} already stands on line {first}.")
    if not predictions:
        raise VlmLitError(f"{path}: holds no predictions. Evaluate the run again.")
    return predictions


def comparison_rows(base: Sequence[Prediction], tuned: Sequence[Prediction]) -> list[ComparisonRow]:
    """Compares two systems item by item: overall, then per answer type and per question type.

    Intervals are clustered by image: by `image_id`, else by `image`, else each item is its own cluster.

    Raises:
        VlmLitError: the two were not asked the same questions, or an item has no score.
    """
    pairs = _aligned(base, tuned)
    rows = [_row("overall", pairs)]
    for breakdown in BREAKDOWNS:
        for value in sorted({item.groups[breakdown] for item, _ in pairs if breakdown in item.groups}):
            members = [pair for pair in pairs if pair[0].groups.get(breakdown) == value]
            rows.append(_row(f"{breakdown}/{value}", members))
    return rows


def comparison_table(rows: Sequence[ComparisonRow]) -> str:
    """Lays rows out as plain text in aligned columns. Accuracies are percent, differences percentage points.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("A comparison table needs at least one row.")
    header = ("", "n", "base %", "tuned %", "difference (points)")
    cells = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [_laid_out(line, widths) for line in cells]
    return "\n".join([*lines, "", _footnote(rows)]) + "\n"


def _laid_out(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Counts (the second column) stand to the right, everything else to the left."""
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    padded[1] = cells[1].rjust(widths[1])
    return "  ".join(padded).rstrip()


def _cells(row: ComparisonRow) -> tuple[str, str, str, str, str]:
    base, tuned, difference = row.intervals or (None, None, None)
    return (
        row.name,
        f"{row.n:,}",
        f"{100 * row.base:5.1f} {_bounds(base)}",
        f"{100 * row.tuned:5.1f} {_bounds(tuned)}",
        f"{_signed(row.tuned - row.base):>6} {_bounds(difference, signed=True)}",
    )


def _bounds(interval: Interval | PairedDifference | None, *, signed: bool = False) -> str:
    if interval is None:
        return "(one image)"
    # A symmetric interval may reach past what an accuracy or a difference can be: cutting it there loses nothing.
    low, high = max(interval.low, -1.0 if signed else 0.0), min(interval.high, 1.0)
    return f"[{_signed(low)}, {_signed(high)}]" if signed else f"[{100 * low:.1f}, {100 * high:.1f}]"


def _signed(fraction: float) -> str:
    """Percentage points with their sign; `+ 0.0` keeps a rounded-away loss from reading -0.0."""
    return f"{round(100 * fraction, 1) + 0.0:+.1f}"


def _footnote(rows: Sequence[ComparisonRow]) -> str:
    intervals = [interval for row in rows for interval in row.intervals or ()]
    if not intervals:
        return "No intervals: every question is about the same image."
    lines = [
        f"[low, high]: {100 * intervals[0].level:g} % confidence interval, clustered by image, differences paired.",
        "None of them holds the noise of training, which takes several seeds to see.",
    ]
    if any(interval.se == 0 for interval in intervals):
        lines.append("An interval of no width says that the images agree, not that the value is certain.")
    return "\n".join(lines)


def _row(name: str, pairs: Sequence[tuple[Prediction, Prediction]]) -> ComparisonRow:
    base = [_scored(item) for item, _ in pairs]
    tuned = [_scored(item) for _, item in pairs]
    clusters = [_cluster(item) for item, _ in pairs]
    intervals = None
    if len(set(clusters)) > 1:
        difference = paired_difference(tuned, base, clusters)
        intervals = mean_interval(base, clusters), mean_interval(tuned, clusters), difference
    n = len(pairs)
    return ComparisonRow(name=name, n=n, base=math.fsum(base) / n, tuned=math.fsum(tuned) / n, intervals=intervals)


def _cluster(item: Prediction) -> tuple[str, str]:
    for kind, value in (("image_id", item.image_id), ("image", item.image)):
        if value is not None:
            return kind, value
    return "id", item.id


def _scored(item: Prediction) -> float:
    if item.score is None:
        raise VlmLitError(f"The prediction of {item.id!r} has no score. Evaluate that run with a metric.")
    return item.score


def _aligned(base: Sequence[Prediction], tuned: Sequence[Prediction]) -> list[tuple[Prediction, Prediction]]:
    """Pairs the items by id, in the order of `base`."""
    by_id = {item.id: item for item in tuned}
    strangers = {item.id for item in base} ^ by_id.keys()
    if strangers or not len(base) == len(tuned) == len(by_id) > 0:
        example = f" (such as {min(strangers)!r})" if strangers else ""
        raise VlmLitError(
            f"The two runs did not answer the same questions once each: {len(base)} and {len(tuned)} answers, "
            f"{len(strangers)} ids in one of them only{example}. Evaluate both on the same split."
        )
    for item in base:
        if item.references != by_id[item.id].references:
            raise VlmLitError(
                f"The two runs judged {item.id!r} by different references: {list(item.references)} and "
                f"{list(by_id[item.id].references)}. Evaluate both on the same version of the data."
            )
    return [(item, by_id[item.id]) for item in base]


def _parsed(line: bytes, *, where: str) -> Prediction:
    try:
        row = json.loads(line)
    except ValueError as error:  # broken JSON, or bytes that are not UTF-8
        raise VlmLitError(f"{where}: is not JSON ({error}). The file may be cut short; evaluate again.") from error
    if not isinstance(row, dict) or row.keys() != _CHECKS.keys():
        found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise VlmLitError(f"{where}: needs the fields {', '.join(_CHECKS)}; found {found}.")
    wrong = [name for name, is_right in _CHECKS.items() if not is_right(row[name])]
    if wrong:
        raise VlmLitError(
            f"{where}: {', '.join(f'{name} = {row[name]!r}' for name in wrong)} cannot be. Evaluate again."
        )
    return Prediction(**{**row, "references": tuple(row["references"])})


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_fraction_or_none(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_text_by_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values())


_CHECKS: Final[Mapping[str, Callable[[object], bool]]] = {
    "id": _is_text,
    "image": _is_text_or_none,
    "image_id": _is_text_or_none,
    "question": _is_text,
    "references": _is_texts,
    "prediction": _is_text,
    "score": _is_fraction_or_none,
    "groups": _is_text_by_text,
}
