"""Exports of a study's report: Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from vlm_lit.files.csv_text import Cell, csv_text
from vlm_lit.studies.estimates.seed_statistics import SeededMean
from vlm_lit.studies.estimates.statistics import cut
from vlm_lit.studies.page_parts.tables import in_latex, in_markdown, latex_table, markdown_table
from vlm_lit.studies.reporting.report import Setting, StudyReport, Versus
from vlm_lit.studies.reporting.report_claim_words import claim_sentence
from vlm_lit.studies.reporting.report_claims import ClaimAnswer
from vlm_lit.studies.reporting.report_sentences import findings, limits
from vlm_lit.studies.reporting.report_tables import Table, report_tables


def as_markdown(report: StudyReport, plots: Sequence[str]) -> str:
    """The whole report in Markdown, with the PNG files of `plots` shown."""
    said = [f"- {line}" for line in in_markdown([*findings(report), *limits(report)])]
    shown = [f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in plots if name.endswith(".png")]
    (title,) = in_markdown([report.study.name])
    return "\n\n".join([f"# {title}", "\n".join(said), *map(_section, report_tables(report)), *shown]) + "\n"


def _section(table: Table) -> str:
    parts = [f"## {table.title}", markdown_table(table.header, table.rows, bold=table.bold), *in_markdown([table.note])]
    return "\n\n".join(part for part in parts if part)


def as_latex(report: StudyReport) -> str:
    """The tables for LaTeX with the package booktabs."""
    parts = ["% Needs \\usepackage{booktabs}. Scores in percent, differences in percentage points."]
    for table in report_tables(report):
        # A comment ends with its line, whatever a name holds.
        head = "".join(f"% {line}\n" for line in (table.title, table.note) if line)
        rows = latex_table(table.header, table.rows, numbers=table.numbers, bold=table.bold, widths=table.widths)
        parts.append(head + rows)
    parts.append("".join(f"% {in_latex(line)}\n" for line in [*findings(report), *limits(report)]))
    return "\n".join(parts)


def as_csv(report: StudyReport) -> str:
    """A line for each setting; scores are fractions, memory MiB, time seconds. Empty where something is not known."""
    lines = [_csv_row(setting, report) for setting in report.settings]
    return csv_text([list(lines[0]), *(list(line.values()) for line in lines)])


def _csv_row(setting: Setting, report: StudyReport) -> dict[str, Cell]:
    score, versus, learned = setting.score, setting.against_baseline, setting.convergence
    gap = versus.difference if versus else None
    return {
        "setting": setting.name,
        **{f"factor {factor}": level for factor, level in setting.levels.items()},
        "baseline": setting.name == report.baseline,
        "best_beyond_doubt": report.best.is_beyond_doubt and report.best.name == setting.name,
        "seeds_planned": len(setting.runs),
        "seeds_finished": len(setting.finished),
        **{name: getattr(score, name, None) for name in ("mean", "sd", "se", "df", "low", "high", "n", "images")},
        **{f"difference_{name}": getattr(gap, name, None) for name in ("mean", "se", "df")},
        **dict(zip(("difference_low", "difference_high"), (versus and versus.interval) or (None, None), strict=True)),
        "difference_p": getattr(gap, "p", None),
        "difference_p_holm": versus.p_holm if versus else None,
        "difference_seeds": len(versus.seeds) if versus else None,
        "trained_parameters": setting.adapter.parameters if setting.adapter else None,
        "adapter_mib": setting.adapter.mib if setting.adapter else None,
        "training_memory_mib": setting.training_memory_mib,
        "host_memory_mib": setting.host_memory_mib,
        "fit_seconds": setting.fit_seconds,
        **{name: getattr(learned, name, None) for name in ("final_loss", "steps", "seconds", "reached")},
    }


def as_json(report: StudyReport) -> str:
    """All figures; scores are fractions, null where something is not known.

    `ci95` of a difference has the `level` at which Holm's procedure tests it, so that a family of them has 95 %.
    """
    content = {
        "study": report.study.name,
        "metric": report.metric,
        "questions": len(report.scores.clusters),
        "images": report.scores.images,
        "finished": not report.unfinished,
        "baseline": report.baseline,
        "best": {
            "setting": report.best.name,
            "beyond_doubt": report.best.is_beyond_doubt,
            "against": [_versus(other) for other in report.best.others],
        },
        "loss": report.loss,
        "loss_window": report.window,
        "settings": [_setting(setting) for setting in report.settings],
        "claims": [_claim(answer) for answer in report.claims],
        "published": [{**asdict(figure), "cell": dict(figure.cell)} for figure in report.study.published],
        "unfinished": [
            {"setting": run.cell.name, "seed": run.cell.seed, "state": run.state, "error": run.error}
            for run in report.unfinished
        ],
        "says": [*findings(report), *limits(report)],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _setting(setting: Setting) -> dict[str, object]:
    score = setting.score
    return {
        "name": setting.name,
        "levels": dict(setting.levels),
        "seeds": [run.cell.seed for run in setting.finished],
        "score": _mean(score, score.interval and cut(score.interval, 0.0, 1.0)) if score else None,
        "against_baseline": _versus(setting.against_baseline),
        "adapter": asdict(setting.adapter) if setting.adapter else None,
        "training_memory_mib": setting.training_memory_mib,
        "host_memory_mib": setting.host_memory_mib,
        "fit_seconds": setting.fit_seconds,
        "convergence": asdict(setting.convergence) if setting.convergence else None,
    }


def _mean(found: SeededMean | None, interval: tuple[float, float] | None) -> dict[str, object] | None:
    """A mean's figures with the interval that is quoted of it."""
    if found is None:
        return None
    return {
        "mean": found.mean,
        "by_seed": list(found.by_seed),
        "sd": found.sd,
        "se": found.se,
        "df": found.df,
        "ci95": list(interval) if interval else None,
        "p": found.p,
    }


def _versus(versus: Versus | None) -> dict[str, object] | None:
    if versus is None:
        return None
    return {
        "setting": versus.name,
        "difference": _mean(versus.difference, versus.interval),
        "level": versus.level if versus.interval else None,
        "seeds": list(versus.seeds),
        "p_holm": versus.p_holm,
    }


def _claim(answer: ClaimAnswer) -> dict[str, object]:
    return {
        "says": answer.claim.says,
        "source": answer.claim.source,
        "kind": answer.claim.kind,
        "margin": answer.claim.margin,
        "better": dict(answer.claim.better),
        "than": dict(answer.claim.than),
        "verdict": answer.verdict,
        "answer": claim_sentence(answer),
        "difference": _mean(answer.difference, answer.interval),
        "still_possible": answer.still_possible,
        "seeds": list(answer.seeds),
        "pairs": [list(pair) for pair in answer.pairs],
        "left_out": [list(pair) for pair in answer.left_out],
    }
