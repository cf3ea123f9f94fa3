"""The terminal form of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from vlm_lit.errors import printable
from vlm_lit.studies.comparing.comparison import Comparison, SystemPair
from vlm_lit.studies.comparing.headline import headline
from vlm_lit.studies.comparing.notes import notes
from vlm_lit.studies.page_parts.wording import bounds, p_value, percent, points
from vlm_lit.studies.run_files.weights import WEIGHTS


def as_text(comparison: Comparison) -> str:
    """Systems, pairs and groups in aligned columns, then the notes. Scores are percent, differences points."""
    parts = [
        "\n".join(headline(comparison)),
        _systems(comparison),
        _weights(comparison),
        _pairs(comparison),
        _groups(comparison),
        "\n".join(notes(comparison)),
    ]
    lines = "\n\n".join(part for part in parts if part).splitlines()
    text = "".join(f"{printable(line)}\n" for line in lines)
    return text.replace("\N{MINUS SIGN}", "-")  # not every terminal's encoding has it


def _systems(comparison: Comparison) -> str:
    if not comparison.standings:
        return f"{len(comparison.items):,} items, {comparison.images:,} images, no scores"
    rows = [(s.system.name, percent(s.mean), bounds(s.bounds, percent)) for s in comparison.standings]
    n = len(comparison.judged)
    images = len({item.cluster for item in comparison.judged})
    title = f"{n:,} items, {images:,} images"
    metric = next((s.system.metric for s in comparison.standings if s.system.metric), None)
    return f"{metric or 'mean score'}, {title}\n" + aligned([("", "mean %", "95 % interval"), *rows])


def _weights(comparison: Comparison) -> str:
    """What each system is, where its files tell."""
    known = [(s.name, s.facts.shown[WEIGHTS]) for s in comparison.systems if WEIGHTS in s.facts.shown]
    return aligned(known) if known else ""


def _pairs(comparison: Comparison) -> str:
    p = "p (Holm)" if len(comparison.pairs) > 1 else "p"
    interval = "95 % interval (Holm)" if len(comparison.pairs) > 1 else "95 % interval"
    header = ("a - b (points)", "difference", interval, p, "wins/ties/losses", "")
    rows = [(f"{pair.a} - {pair.b}", *_cells(pair)) for pair in comparison.pairs]
    return aligned([header, *rows]) if rows else ""


def _groups(comparison: Comparison) -> str:
    header = ("", "n", "difference", "95 % interval (Holm)", "p (Holm)", "wins/ties/losses", "")
    tables = []
    for column, pair in enumerate(comparison.pairs):
        rows = [(f"{g.name}/{g.value}", f"{g.n:,}", *_cells(g.pairs[column])) for g in comparison.groups]
        if rows:
            tables.append(f"{pair.a} - {pair.b}\n" + aligned([header, *rows]))
    return "\n\n".join(tables)


def _cells(pair: SystemPair) -> tuple[str, ...]:
    count = f"{pair.tally.wins}/{pair.tally.ties}/{pair.tally.losses}"
    p = p_value(pair.p_holm) if pair.p_holm is not None else ""
    return points(pair.gap), bounds(pair.interval, points), p, count, pair.verdict


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns, the first to the left; what would steer a terminal is written out."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)
