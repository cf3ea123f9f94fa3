"""The HTML page of a study's report: one file that needs no other, everything in it escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vlm_lit.plot_style import svg_address
from vlm_lit.studies.page_parts.templates import environment
from vlm_lit.studies.reporting.report import StudyReport
from vlm_lit.studies.reporting.report_plots import shown_settings
from vlm_lit.studies.reporting.report_sentences import findings, limits
from vlm_lit.studies.reporting.report_tables import report_tables

_TEMPLATE: Final = "report.html.j2"


def as_page(report: StudyReport, plots: Mapping[str, bytes]) -> str:
    """The report as one HTML page.

    Args:
        report: what to show.
        plots: files by name; the SVG ones are put into the page.
    """
    return (
        environment()
        .get_template(_TEMPLATE)
        .render(
            report=report,
            findings=findings(report),
            limits=limits(report),
            tables=report_tables(report),
            plots={name.removesuffix(".svg"): svg_address(f) for name, f in plots.items() if name.endswith(".svg")},
            drawn=len(shown_settings(report)),
        )
    )
