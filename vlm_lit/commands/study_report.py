"""`study report`: what a study's runs say, as tables, figures and a page to read. No model is loaded."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_lit.commands.options import OptionParser
from vlm_lit.commands.output_files import write_files

if TYPE_CHECKING:
    from vlm_lit.studies.reporting.report import StudyReport


def run(verb: str, arguments: Sequence[str]) -> int:
    """Parse the options, read the study's runs, write and print; the exit status."""
    parser = OptionParser(verb, description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="the study's YAML file")
    parser.add_argument("--output", type=Path, help="folder for the report; otherwise report/ in the study's own")
    parser.add_argument(
        "--loss", type=_loss, help="time each setting to this training loss; otherwise to the worst run's final one"
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="another metric of the same runs; the file's claims are not about it"
    )
    print(_report(parser.parse_intermixed_args(arguments)))
    return 0


def _loss(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a loss, a number above 0")
    return value


def _report(options: argparse.Namespace) -> str:
    from vlm_lit.studies.reporting.report import study_report
    from vlm_lit.studies.reporting.report_text import as_text
    from vlm_lit.studies.running.study_file import read_study

    study = read_study(options.file)
    if options.metric not in (None, study.metric):
        study = replace(study, metric=options.metric, claims=(), published=())
    report = study_report(study, loss=options.loss)
    folder = options.output or study.folder / "report"
    write_files(folder, _files(report))
    return f"{as_text(report)}\nPage: {folder / 'report.html'}"


def _files(report: StudyReport) -> dict[str, str | bytes]:
    from vlm_lit.studies.reporting import report_exports
    from vlm_lit.studies.reporting.report_page import as_page
    from vlm_lit.studies.reporting.report_plots import report_plots

    plots = report_plots(report)
    return {
        "report.json": report_exports.as_json(report),
        "report.csv": report_exports.as_csv(report),
        "report.md": report_exports.as_markdown(report, list(plots)),
        "report.tex": report_exports.as_latex(report),
        "report.html": as_page(report, plots),
        **plots,
    }
