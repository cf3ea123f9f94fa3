"""The terminal form of a study's report."""

from __future__ import annotations

from vlm_lit.errors import printable
from vlm_lit.studies.comparing.comparison_text import aligned
from vlm_lit.studies.reporting.report import StudyReport
from vlm_lit.studies.reporting.report_claim_words import claim_sentence
from vlm_lit.studies.reporting.report_sentences import findings, limits
from vlm_lit.studies.reporting.report_tables import Table, costs_table, scores_table, unfinished_table

_PLAIN = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{PLUS-MINUS SIGN}": "+-"})


def as_text(report: StudyReport) -> str:
    """The tables of scores, costs and runs without a score in aligned columns, then what they say."""
    title = f"{report.study.name}: {len(report.scores.clusters):,} questions, {report.scores.images:,} images"
    tables = [scores_table(report), costs_table(report), unfinished_table(report)]
    claims = [f"{answer.claim.says.rstrip('.')}: {claim_sentence(answer)}" for answer in report.claims]
    said = "\n".join([*findings(report), *claims, *limits(report)])
    text = "\n\n".join([title, *(_table(table) for table in tables if table.rows), said])
    # Not every terminal's encoding has these.
    return "".join(f"{printable(line)}\n" for line in text.splitlines()).translate(_PLAIN)


def _table(table: Table) -> str:
    marked = [(f"{'* ' if i in table.bold else ''}{row[0]}", *row[1:]) for i, row in enumerate(table.rows)]
    return aligned([table.header, *marked])
