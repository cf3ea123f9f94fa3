"""Tables of a study's report: their cells in words, the same in every format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vlm_lit.studies.estimates.seed_statistics import SeededMean
from vlm_lit.studies.estimates.statistics import cut
from vlm_lit.studies.page_parts.wording import FEWEST_IMAGES, FEWEST_SEEDS, bounds, decimal, p_value, percent, points
from vlm_lit.studies.reporting.report import Setting, StudyReport, Versus
from vlm_lit.studies.reporting.report_claim_words import claim_sentence, levels_text
from vlm_lit.studies.reporting.report_sentences import best_position
from vlm_lit.studies.running.study_file import Published

NONE = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A title, a header, rows of as many cells, how many columns from the right are figures, and rows in bold.

    `widths` are those of columns with sentences, as shares of a line. `note` is what a reader of the table has to know.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int
    bold: frozenset[int] = frozenset()
    widths: Mapping[int, float] = field(default_factory=dict)
    note: str = ""


def report_tables(report: StudyReport) -> list[Table]:
    """Scores, costs, claims, published figures and runs without a score, as far as there are any."""
    tables = [scores_table(report), costs_table(report), claims_table(report), published_table(report)]
    return [table for table in [*tables, unfinished_table(report)] if table.rows]


def scores_table(report: StudyReport) -> Table:
    """A row for each setting: mean, deviation, interval, and what it has over the baseline."""
    bold = best_position(report)
    return Table(
        title="Scores",
        header=(
            "setting",
            "seeds",
            f"{report.metric}, %",
            "sd over seeds",
            "95 % interval",
            "minus baseline, points",
            "95 % interval (Holm)",
            "p",
            "p (Holm)",
        ),
        rows=tuple(_score_row(setting, report) for setting in report.settings),
        numbers=8,
        bold=bold,
        note="In bold: better than every other setting after Holm's correction."
        if bold
        else "Nothing is in bold: no setting was shown to be better than every other one (Holm's correction, "
        f"{FEWEST_IMAGES} images and {FEWEST_SEEDS} seeds or more).",
    )


def _score_row(setting: Setting, report: StudyReport) -> tuple[str, ...]:
    name = f"{setting.name} (baseline)" if setting.name == report.baseline else setting.name
    seeds = f"{len(setting.finished)} of {len(setting.runs)}"
    if setting.score is None:
        return name, seeds, *(NONE,) * 7
    sd = NONE if setting.score.sd is None else percent(setting.score.sd)
    return (
        name,
        seeds,
        percent(setting.score.mean),
        sd,
        interval_text(setting.score),
        *_versus(setting.against_baseline),
    )


def _versus(versus: Versus | None) -> tuple[str, ...]:
    if versus is None:
        return (NONE,) * 4
    found = versus.difference
    p, corrected = (NONE if p is None else p_value(p) for p in (found.p, versus.p_holm))
    return points(found.mean), bounds(versus.interval, points) or NONE, p, corrected


def interval_text(found: SeededMean) -> str:
    """`[48.9, 57.3]`, cut where no score can be; a dash where there is none."""
    return NONE if found.interval is None else bounds(cut(found.interval, 0.0, 1.0), percent)


def costs_table(report: StudyReport) -> Table:
    """A row for each setting: what it trains, takes and learns."""
    loss = "" if report.loss is None else f" to a loss of {decimal(report.loss)}"
    return Table(
        title="Cost and convergence",
        header=(
            "setting",
            "trained parameters",
            "adapter, MiB",
            "peak memory in training, MiB",
            "of the host, MiB",
            "fit, s",
            "final loss",
            f"steps{loss}",
            f"seconds{loss}",
        ),
        rows=tuple(_cost_row(setting) for setting in report.ranked),
        numbers=8,
        note="Means over seeds. Memory in training is the GPU's where there is one, else the process's; memory of the "
        f"host is that of the run's processes.{_loss_note(report)}",
    )


def _loss_note(report: StudyReport) -> str:
    if report.loss is None:
        return ""
    smoothed = f" A loss is the mean of {report.window} logged points." if report.window > 1 else ""
    return (
        f"{smoothed} Seconds to a loss are counted from the first logged step; the whole fit includes loading and any "
        "validation."
    )


def _cost_row(setting: Setting) -> tuple[str, ...]:
    adapter, learned = setting.adapter, setting.convergence
    reached = "" if learned is None or learned.is_reached else f" ({learned.reached} of {learned.seeds} seeds)"
    return (
        setting.name,
        _or_dash(adapter.parameters if adapter else None, ",.0f"),
        _or_dash(adapter.mib if adapter else None, ",.2f"),
        _or_dash(setting.training_memory_mib, ",.0f"),
        _or_dash(setting.host_memory_mib, ",.0f"),
        _seconds(setting.fit_seconds),
        _or_dash(learned.final_loss if learned else None, ".3f"),
        _or_dash(learned.steps if learned else None, ",.0f") + reached,
        _seconds(learned.seconds if learned else None) + reached,
    )


def _or_dash(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)


def _seconds(value: float | None) -> str:
    return "< 0.1" if value is not None and value < 0.05 else _or_dash(value, ",.1f")


def claims_table(report: StudyReport) -> Table:
    """What the study's author said, where that comes from, and what the runs say."""
    return Table(
        title="Claims",
        header=("claim", "source", "what the runs say"),
        rows=tuple((a.claim.says, a.claim.source, claim_sentence(a)) for a in report.claims),
        numbers=0,
        widths={0: 0.25, 1: 0.2, 2: 0.5},
        note="Each claim by the 95 % interval of its own difference, averaged over the other factors' levels; "
        "no correction for the number of claims.",
    )


def published_table(report: StudyReport) -> Table:
    """Others' figures beside ours, in columns of their own."""
    rows = [row for figure in report.study.published for row in _published_rows(figure, report)]
    return Table(
        title="Published figures",
        header=(
            "levels",
            "published: what",
            "source",
            "published",
            "setting here",
            f"{report.metric}, %",
            "95 % interval",
        ),
        rows=tuple(rows),
        numbers=2,
        widths={1: 0.2, 2: 0.15},
        note="Published figures stand as they were published. They are of others' runs, perhaps on other data; none "
        "enters a figure of this report.",
    )


def _published_rows(figure: Published, report: StudyReport) -> list[tuple[str, ...]]:
    theirs = (levels_text(figure.cell), figure.what, figure.source, _as_published(figure.value))
    same = [s for s in report.ranked if figure.cell.items() <= s.levels.items()]
    ours = [(s.name, percent(s.score.mean), interval_text(s.score)) for s in same if s.score]
    return [(*theirs, *row) for row in ours or [(NONE, NONE, NONE)]]


def _as_published(value: float) -> str:
    """A fraction in percent with every digit it came with; what is none, as it stands."""
    return f"{100 * value:.10g} %" if 0 <= value <= 1 else f"{value:g}"


def unfinished_table(report: StudyReport) -> Table:
    """The runs that have no score, and why."""
    return Table(
        title="Runs without a score",
        header=("setting", "seed", "state", "error"),
        rows=tuple((r.cell.name, str(r.cell.seed), r.state, r.error or NONE) for r in report.unfinished),
        numbers=0,
        widths={3: 0.5},
    )
