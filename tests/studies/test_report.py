"""Tests of a study report's figures, by hand and against the statistics they are made with."""

import re
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from tests.support.study_runs import falling, open_study, write_cell
from vlm_lit.errors import VlmLitError
from vlm_lit.studies.estimates.seed_statistics import seeded_mean
from vlm_lit.studies.reporting.report import Setting, StudyReport, study_report
from vlm_lit.studies.reporting.report_plots import MOST_SETTINGS, shown_settings
from vlm_lit.studies.reporting.report_sentences import duration, findings, limits
from vlm_lit.studies.reporting.report_tables import costs_table
from vlm_lit.studies.running.study_file import Study

LEVELS = ("a", "b", "c")


def scored(
    folder: Path, right: dict[str, list[int]], *, questions: int = 40, per_image: int = 2, **changes: object
) -> Study:
    """Settings that answer the first so many questions right with each seed, two questions an image."""
    study = open_study(folder, {"way": list(right)}, seeds=list(range(len(next(iter(right.values()))))), **changes)
    for level, seeds in right.items():
        for seed, n in enumerate(seeds):
            write_cell(study, {"way": level}, seed, [1.0] * n + [0.0] * (questions - n), per_image=per_image)
    return study


def setting(report: StudyReport, level: str) -> Setting:
    return next(s for s in report.settings if s.levels == {"way": level})


def test_a_row_is_a_setting_over_its_seeds(tmp_path: Path) -> None:
    report = study_report(scored(tmp_path, {"a": [20, 22, 24], "b": [28, 30, 32]}))
    row = setting(report, "b")
    assert row.score is not None
    assert row.score.mean == pytest.approx(0.75)
    assert row.score.by_seed == pytest.approx((0.7, 0.75, 0.8))
    assert row.score.sd == pytest.approx(0.05)
    assert (row.score.n, row.score.images, row.score.seeds) == (40, 20, 3)
    scores = np.array([[1.0 if i < n else 0.0 for n in (28, 30, 32)] for i in range(40)])
    assert row.score == seeded_mean(scores, [i // 2 for i in range(40)])
    assert (row.fit_seconds, row.host_memory_mib, row.training_memory_mib) == (60.0, 512.0, None)
    assert row.adapter is not None
    assert row.adapter.parameters == 1000


def test_differences_to_the_baseline_are_paired_by_question_and_seed(tmp_path: Path) -> None:
    report = study_report(scored(tmp_path, {"a": [20, 22, 24], "b": [28, 30, 32], "c": [20, 22, 24]}))
    assert report.baseline == "way=a"
    assert setting(report, "a").against_baseline is None
    better, same = (setting(report, level).against_baseline for level in "bc")
    assert better is not None
    assert same is not None
    # Every seed answers eight questions more, of the same four images: that the seeds vary as well must not show.
    assert better.difference.mean == pytest.approx(0.2)
    assert better.difference.by_seed == pytest.approx((0.2, 0.2, 0.2))
    assert (same.difference.mean, same.difference.interval, same.difference.p) == (0.0, (0.0, 0.0), 1.0)


def test_p_values_are_corrected_over_the_differences_to_the_baseline(tmp_path: Path) -> None:
    report = study_report(scored(tmp_path, {"a": [10, 10], "b": [14, 13], "c": [18, 20], "d": [13, 10]}))
    found = [s.against_baseline for s in report.settings if s.against_baseline is not None]
    raw, corrected = [v.difference.p for v in found], [v.p_holm for v in found]
    assert len(set(raw)) == 3
    assert corrected == pytest.approx(multipletests(raw, method="holm")[1])
    assert corrected != raw


def test_the_best_is_beyond_doubt_if_it_beats_every_other_one(tmp_path: Path) -> None:
    report = study_report(scored(tmp_path, {"a": [10, 12, 11], "b": [36, 35, 37], "c": [12, 10, 11]}, per_image=1))
    assert (report.best.name, report.best.is_beyond_doubt) == ("way=b", True)
    assert [other.name for other in report.best.others] == ["way=a", "way=c"]
    raw = [other.difference.p for other in report.best.others]
    assert [other.p_holm for other in report.best.others] == pytest.approx(multipletests(raw, method="holm")[1])


@pytest.mark.parametrize(
    "right",
    [
        {"a": [10, 12, 11], "b": [36, 35, 37], "c": [35, 36, 35]},  # a close second
        {"a": [36, 36, 36], "b": [36, 36, 36], "c": [1, 2, 3]},  # a tie
        {"a": [10, 12, 11], "b": [36, 35, 37], "c": [38, 20, 38]},  # higher twice of three times
    ],
)
def test_it_is_not_if_one_of_them_may_be_as_good(tmp_path: Path, right: dict[str, list[int]]) -> None:
    best = study_report(scored(tmp_path, right, per_image=1)).best
    assert best.is_evidence
    assert not best.is_beyond_doubt


def test_the_best_has_the_lowest_mean_where_less_is_better(tmp_path: Path) -> None:
    right = {"a": [36, 35, 37], "b": [3, 2, 4], "c": [20, 22, 24]}
    report = study_report(scored(tmp_path, right, per_image=1, metric="chair"))
    assert (report.best.name, report.best.is_beyond_doubt) == ("way=b", True)
    assert "way=b is best with 7.5 %" in " ".join(findings(report))
    assert limits(report)[0] == "Lower is better by chair."
    few = study_report(scored(tmp_path / "few", right, per_image=8, metric="chair"))
    assert "way=b has the lowest mean, 7.5 %" in " ".join(findings(few))
    many = {f"w{i:02d}": [i, i + 1] for i in range(MOST_SETTINGS + 4)}
    drawn = shown_settings(study_report(scored(tmp_path / "many", many, metric="chair")))
    assert [s.levels["way"] for s in drawn] == list(many)[:MOST_SETTINGS]


def test_a_p_that_the_correction_lifts_over_the_line_makes_no_best(tmp_path: Path) -> None:
    right = {"a": [14], "b": [22], **{f"c{i}": [14] for i in range(4)}}
    best = study_report(scored(tmp_path, right)).best
    raw = [other.difference.p for other in best.others]
    assert best.name == "way=b"
    assert all(p is not None and p <= 0.05 for p in raw), "the case is too easy or too hard"
    assert max(other.p_holm or 0 for other in best.others) > 0.05
    assert not best.is_beyond_doubt


@pytest.mark.parametrize(
    ("seeds", "per_image", "says"),
    [
        (3, 8, "This is no evidence: only 5 images were asked about. It takes 30 or more"),
        (2, 1, "This is no evidence about training: a system was trained with 2 seeds, and it takes 3 or more"),
        (1, 1, "This is no evidence about training: a system was trained with one seed,"),
    ],
)
def test_none_is_called_best_on_few_images_or_seeds(tmp_path: Path, seeds: int, per_image: int, says: str) -> None:
    right = {"a": [8, 9, 8][:seeds], "b": [39, 40, 39][:seeds]}
    report = study_report(scored(tmp_path, right, per_image=per_image))
    assert report.best.is_ahead, "the case is too hard"
    assert not report.best.is_beyond_doubt
    first, second, *_ = findings(report)
    assert first.startswith(says)
    assert "way=b has the highest mean" in second
    assert "None is called best" in second
    assert not [words for words in findings(report) if "better than every other" in words or "is best" in words]


def test_an_interval_leaves_out_zero_exactly_where_the_corrected_p_does(tmp_path: Path) -> None:
    right = {"a": [14, 14, 15], "b": [22, 23, 22], **{f"c{i}": [14 + 2 * i, 15 + 2 * i, 14 + 2 * i] for i in range(5)}}
    others = [s.against_baseline for s in study_report(scored(tmp_path, right, per_image=1)).settings]
    found = [(v.p_holm, v.difference.p, v.interval, v.difference.interval) for v in others if v is not None]
    for p_holm, _, interval, _ in found:
        assert interval is not None
        assert p_holm is not None
        assert (interval[0] > 0 or interval[1] < 0) == (p_holm <= 0.05)
        assert -1 <= interval[0] <= interval[1] <= 1
    # The case has one that 95 % alone would have called a difference.
    assert any(alone and alone[0] > 0 and (p or 0) > 0.05 for p, _, _, alone in found)


def test_one_setting_is_best_of_nothing(tmp_path: Path) -> None:
    study = open_study(tmp_path, {"way": ["a", "b"]})
    write_cell(study, {"way": "b"}, 1, [1, 0, 1, 0])
    report = study_report(study)
    assert (report.best.name, report.best.others, report.best.is_beyond_doubt) == ("way=b", (), False)
    assert setting(report, "a").score is None
    assert setting(report, "b").against_baseline is None


def test_seeds_that_one_side_lacks_are_left_out(tmp_path: Path) -> None:
    study = open_study(tmp_path, {"way": LEVELS})
    for seed, n in ((0, 10), (1, 14), (2, 12)):
        write_cell(study, {"way": "a"}, seed, [1.0] * n + [0.0] * (40 - n))
    for seed, n in ((2, 15), (0, 16)):
        write_cell(study, {"way": "b"}, seed, [1.0] * n + [0.0] * (40 - n))
    write_cell(study, {"way": "c"}, 1, [1.0] * 40)
    report = study_report(study)
    versus = setting(report, "b").against_baseline
    assert versus is not None
    assert versus.seeds == (0, 2)
    assert versus.difference.mean == pytest.approx((6 + 3) / 80)
    assert setting(report, "a").score is not None
    # c is highest and shares no seed with b: it cannot have been shown to be better.
    assert (report.best.name, report.best.ranked, len(report.best.others)) == ("way=c", 3, 1)
    assert not report.best.is_beyond_doubt


def test_the_loss_that_the_worst_run_ends_at_is_the_target(tmp_path: Path) -> None:
    study = open_study(tmp_path, {"way": ["a", "b"]}, seeds=[0, 1])
    for level, ends in (("a", (0.5, 0.7)), ("b", (1.0, 0.9))):
        for seed, end in enumerate(ends):
            events = {"train/loss": falling(11, to=end, seconds=2.0)}
            write_cell(study, {"way": level}, seed, [1.0, 0.0, 1.0, 0.0], events=events)
    report = study_report(study)
    assert (report.loss, report.window) == pytest.approx((1.0, 1))
    slow, fast = setting(report, "b").convergence, setting(report, "a").convergence
    assert slow is not None
    assert fast is not None
    # b: 2 - 0.1 i reaches 1 at the 11th step, 2 - 0.11 i at i = 9.09, the 11th. a: 0.15 i and 0.13 i, i = 7 and 8.
    assert (slow.final_loss, slow.steps, slow.seconds, slow.reached) == pytest.approx((0.95, 11, 20, 2))
    assert (fast.final_loss, fast.steps, fast.seconds) == pytest.approx((0.6, 8.5, 15))
    asked = study_report(study, loss=0.6)
    partly = setting(asked, "a").convergence
    assert partly is not None
    assert (asked.loss, partly.reached, partly.seeds, partly.steps, partly.is_reached) == (0.6, 1, 2, 11, False)


def test_what_is_not_trained_has_no_convergence(tmp_path: Path) -> None:
    study = open_study(tmp_path, {"way": ["a", "b"]}, seeds=[0])
    folder = write_cell(study, {"way": "a"}, 0, [1.0, 0.0, 1.0, 0.0])
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    report = study_report(study)
    assert (report.loss, setting(report, "a").convergence, setting(report, "a").adapter) == (None, None, None)


def test_a_search_has_no_baseline_and_tests_no_claim(tmp_path: Path) -> None:
    ranges = {"model.init_args.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}
    claims = [{"says": "b", "source": "s", "better": {"way": "b"}, "than": {"way": "a"}, "kind": "greater"}]
    study = open_study(
        tmp_path,
        {"way": ["a", "b"]},
        search={"sampler": "random", "trials": 3, "ranges": ranges},
        claims=claims,
        seeds=[0],
    )
    for level, rate, n in (("a", 0.01, 2), ("b", 0.02, 4), ("b", 0.03, 6)):
        drawn = {"model.init_args.learning_rate": rate}
        write_cell(study, {"way": level}, 0, [1.0] * n + [0.0] * (8 - n), parameters=drawn)
    report = study_report(study)
    assert report.baseline is None
    assert [s.score.mean for s in report.ranked if s.score] == [0.25, 0.5, 0.75]
    assert all(s.against_baseline is None for s in report.settings)
    assert [answer.verdict for answer in report.claims] == ["not tested"]


def test_a_study_without_a_finished_run_has_no_report(tmp_path: Path) -> None:
    study = open_study(tmp_path, {"way": ["a", "b"]})
    write_cell(study, {"way": "a"}, 0, status="failed", error="boom")
    with pytest.raises(VlmLitError, match=r"no run is finished \(5 missing, 0 running, 1 failed of 6\)"):
        study_report(study)


def sentence(folder: Path, **ends: tuple[float, float]) -> str:
    """What is said of settings by the loss each ends at after 11 steps, and the seconds a step takes."""
    study = open_study(folder, {"way": list(ends)}, seeds=[0])
    for level, (end, seconds) in ends.items():
        events = {"train/loss": falling(11, to=end, seconds=seconds)}
        write_cell(study, {"way": level}, 0, [1.0, 0.0, 1.0, 0.0], events=events)
    return findings(study_report(study, loss=1.5))[-1]


def test_who_is_first_and_who_ends_lowest_is_said(tmp_path: Path) -> None:
    # From 2 by 0.1, 0.1 and 0.05 a step; 1.5 is passed at the 6th, the 6th and the 11th.
    assert sentence(tmp_path / "1", a=(1.0, 2.0), b=(1.0, 3.0), c=(1.5, 0.5)) == (
        "First at a training loss of 1.50: way=a, way=b in the fewest steps, 6, and way=c in the least time, 5.0 s; "
        "way=a ends lowest, at a training loss of 1.00."
    )
    assert sentence(tmp_path / "2", a=(1.0, 2.0), b=(1.5, 2.0)).endswith(
        "10 s; it also ends lowest, at a training loss of 1.00."
    )
    assert sentence(tmp_path / "3", a=(1.8, 2.0), b=(1.6, 2.0)) == (
        "No setting comes down to a training loss of 1.50 with every seed; way=b ends lowest, at a training loss of "
        "1.60."
    )


@pytest.mark.parametrize(("seconds", "says"), [(0.0, "at the first logged step"), (0.004, "under 0.1 s"), (12, "12 s")])
def test_no_time_is_none(seconds: float, says: str) -> None:
    assert duration(seconds) == says


def test_a_table_has_no_time_of_zero(tmp_path: Path) -> None:
    study = open_study(tmp_path, {"way": ["a", "b"]}, seeds=[0])
    for level in "ab":
        loss = {"train/loss": falling(11, to=1.0, seconds=0.001)}
        write_cell(study, {"way": level}, 0, [1.0, 0.0], events=loss, fit_seconds=0.01)
    report = study_report(study, loss=5.0)  # reached at once
    table = costs_table(report)
    assert {(row[5], row[8]) for row in table.rows} == {("< 0.1", "< 0.1")}
    assert "in the least time, at the first logged step" in " ".join(findings(report))
    assert not re.search(r"\b0\.0 s", " ".join(findings(report)))
