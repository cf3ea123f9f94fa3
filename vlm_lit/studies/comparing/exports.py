"""Exports of a comparison: JSON and CSV for figures, Markdown and LaTeX for papers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from vlm_lit.files.csv_text import csv_text
from vlm_lit.studies.comparing.comparison import OVERALL, Comparison, SystemPair, SystemStanding
from vlm_lit.studies.comparing.counterfactual import counterfactual
from vlm_lit.studies.comparing.headline import headline
from vlm_lit.studies.comparing.notes import notes
from vlm_lit.studies.page_parts.tables import in_markdown, latex_table, markdown_table
from vlm_lit.studies.page_parts.wording import bounds, p_value, percent, points

_INTERVAL: Final = "95 % interval"
_CORRECTED: Final = "95 % interval (Holm)"


def as_json(comparison: Comparison) -> str:
    """All figures as fractions; null where all items show one image, or where something does not apply.

    `ci95` of a pair has the `level` at which Holm's procedure tests it, so that all of them together have 95 %.
    """
    content: dict[str, object] = {
        "pairs": [_pair(pair) for pair in comparison.pairs],
        "systems": [_standing(standing) for standing in comparison.standings],
        "groups": [
            {"group": g.name, "value": g.value, "n": g.n, "pairs": [_pair(pair) for pair in g.pairs]}
            for g in comparison.groups
        ],
        "headline": headline(comparison),
        "notes": notes(comparison),
    }
    found = counterfactual(comparison)
    if found is not None:
        content["counterfactual"] = asdict(found)
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _standing(standing: SystemStanding) -> dict[str, object]:
    system, interval = standing.system, standing.interval
    return {
        "name": system.name,
        "path": str(system.path),
        "metric": system.metric,
        "mean": standing.mean,
        "se_clustered": interval.se if interval else None,
        "ci95": list(standing.bounds) if standing.bounds else None,
        "overall": system.overall,
        "unparsed": system.unparsed,
    }


def _pair(pair: SystemPair) -> dict[str, object]:
    found, draws = pair.difference, pair.bootstrap
    return {
        "a": pair.a,
        "b": pair.b,
        "n": pair.n,
        "clusters": pair.clusters,
        "mean_a": pair.mean_a,
        "mean_b": pair.mean_b,
        "correlation": pair.correlation,
        "difference": {
            "mean": pair.gap,
            "se": found.plain_se if found else None,
            "se_clustered": found.se if found else None,
            "ci95": list(pair.interval) if pair.interval else None,
            "level": pair.level if pair.interval else None,
            "p": found.p if found else None,
        },
        "bootstrap": {"ci95": [draws.low, draws.high], "resamples": draws.resamples, "seed": draws.seed}
        if draws
        else None,
        "mcnemar": asdict(pair.mcnemar) if pair.mcnemar else None,
        "mde": pair.mde,
        "verdict": pair.verdict,
        "p_holm": pair.p_holm,
        **asdict(pair.tally),
        "figures": [
            {
                "name": figure.name,
                "a": figure.a,
                "b": figure.b,
                "difference": figure.difference,
                "ci95": [figure.interval.low, figure.interval.high],
            }
            for figure in pair.figures
        ],
    }


def as_csv(comparison: Comparison) -> str:
    """A line for each pair overall and in each group; figures are fractions."""
    names = ("group", "value", "a", "b", "n", "clusters", "mean_a", "mean_b", "difference", "se", "se_clustered")
    header = [*names, "low", "high", "p", "p_holm", "wins", "ties", "losses", "mde", "verdict"]
    lines: list[list[str | float | None]] = []
    for group, value, pair in _every_pair(comparison):
        found = pair.difference
        errors = (found.plain_se, found.se, *(pair.interval or ()), found.p) if found else ("",) * 5
        counts = (pair.tally.wins, pair.tally.ties, pair.tally.losses)
        figures = (pair.n, pair.clusters, pair.mean_a, pair.mean_b, pair.gap)
        names_of = (group, value, pair.a, pair.b)
        lines.append([*names_of, *figures, *errors, pair.p_holm, *counts, pair.mde, pair.verdict])
    return csv_text([header, *lines])


def _every_pair(comparison: Comparison) -> list[tuple[str, str, SystemPair]]:
    of_groups = [(group.name, group.value, pair) for group in comparison.groups for pair in group.pairs]
    return [*((OVERALL, "", pair) for pair in comparison.pairs), *of_groups]


def as_markdown(comparison: Comparison) -> str:
    """The tables of systems, pairs and groups, and the notes."""
    tables = [markdown_table(header, rows) for header, rows in _tables(comparison)]
    first, said = (
        "\n".join(f"- {line}" for line in in_markdown(lines)) for lines in (headline(comparison), notes(comparison))
    )
    return "\n\n".join(part for part in [first, *tables, said] if part).strip() + "\n"


def as_latex(comparison: Comparison) -> str:
    """The same tables for LaTeX with the package booktabs."""
    head = "% Needs \\usepackage{booktabs}. Scores in percent, differences in percentage points.\n"
    return head + "\n".join(latex_table(header, rows, numbers=_numbers(header)) for header, rows in _tables(comparison))


def _numbers(header: Sequence[str]) -> int:
    """How many of the columns, from the right, hold figures; a verdict is words."""
    return sum(name in ("n", "mean", "difference", "p", "p (Holm)", _INTERVAL, _CORRECTED) for name in header)


Table = tuple[Sequence[str], list[Sequence[str]]]


def _tables(comparison: Comparison) -> list[Table]:
    systems: Table = ("system", "n", "mean", _INTERVAL), [_system_row(s) for s in comparison.standings]
    interval = _CORRECTED if len(comparison.pairs) > 1 else _INTERVAL
    pairs: Table = (
        ("pair (a - b)", "verdict", "n", "difference", interval, "p", "p (Holm)"),
        [(f"{p.a} - {p.b}", p.verdict, *_figures(p)) for p in comparison.pairs],
    )
    groups: Table = (
        ("group", "pair", "verdict", "n", "difference", _CORRECTED, "p", "p (Holm)"),
        [
            (f"{g.name}: {g.value}", f"{p.a} - {p.b}", p.verdict, *_figures(p))
            for g in comparison.groups
            for p in g.pairs
        ],
    )
    return [table for table in (systems, pairs, groups) if table[1]]


def _system_row(standing: SystemStanding) -> tuple[str, ...]:
    n = f"{standing.interval.n:,}" if standing.interval else ""
    return standing.system.name, n, percent(standing.mean), bounds(standing.bounds, percent)


def _figures(pair: SystemPair) -> tuple[str, ...]:
    p = p_value(pair.difference.p) if pair.difference else ""
    corrected = p_value(pair.p_holm) if pair.p_holm is not None else ""
    return f"{pair.n:,}", points(pair.gap), bounds(pair.interval, points), p, corrected
