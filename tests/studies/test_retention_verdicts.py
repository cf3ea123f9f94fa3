"""Tests of verdicts on retention: kept, lost, undecided, each by an interval that all benchmarks' share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.run_files import row, rows, write_run
from vlm_lit.errors import VlmLitError
from vlm_lit.studies.estimates.statistics import paired_difference
from vlm_lit.studies.retention.retention_page import as_page
from vlm_lit.studies.retention.verdicts import Retention, as_json, retained, table

RIGHT = [1.0, 0.0] * 60


def lost(few: int) -> list[float]:
    """The same scores with the first right ones wrong."""
    return [0.0 if i < 2 * few else score for i, score in enumerate(RIGHT)]


def found(folder: Path, *pairs: Sequence[Sequence[float]], max_loss: float = 0.02, per_image: int = 1) -> Retention:
    """The retention of runs with the scores (base, tuned) of each benchmark."""
    folders = []
    for k, (base, tuned) in enumerate(pairs):
        sides = {"tuned": tuned, "base": base}
        made = {n: write_run(folder / f"b{k}" / n, rows(s, per_image=per_image)) for n, s in sides.items()}
        folders.append((f"b{k}", made["tuned"], made["base"]))
    return retained("runs/mine", folders, max_loss=max_loss)


@pytest.mark.parametrize(
    ("tuned", "max_loss", "kept", "status"),
    [
        (RIGHT, 0.02, "kept", 0),
        (lost(1), 0.05, "kept", 0),
        (lost(3), 0.02, "undecided", 3),
        (lost(40), 0.02, "lost", 1),
        (lost(40), 0.9, "kept", 0),
    ],
)
def test_a_loss_is_ruled_out_or_shown_or_neither(
    tuned: list[float], max_loss: float, kept: str, status: int, tmp_path: Path
) -> None:
    retention = found(tmp_path, (RIGHT, tuned), max_loss=max_loss)
    (one,) = retention.benchmarks
    assert (one.kept, retention.status) == (kept, status)
    assert one.verdict.startswith(kept)
    assert one.change == pytest.approx((sum(tuned) - sum(RIGHT)) / 120)
    assert (one.gained, one.lost) == (0, sum(a != b for a, b in zip(tuned, RIGHT, strict=True)))


def test_the_intervals_of_several_benchmarks_hold_together(tmp_path: Path) -> None:
    alone = found(tmp_path / "a", (RIGHT, lost(5))).benchmarks[0].interval
    together = found(tmp_path / "b", (RIGHT, lost(5)), (RIGHT, RIGHT)).benchmarks[0].interval
    images = list(range(120))
    for interval, level in ((alone, 0.95), (together, 0.975)):
        expected = paired_difference(lost(5), RIGHT, images, level=level)
        assert interval == pytest.approx((expected.low, expected.high))


def test_few_images_decide_nothing(tmp_path: Path) -> None:
    retention = found(tmp_path, (RIGHT, RIGHT), per_image=10)
    assert retention.benchmarks[0].verdict == "undecided: 12 images are too few, 30 are needed"
    assert retention.status == 3


def test_one_lost_benchmark_is_named_and_decides(tmp_path: Path) -> None:
    retention = found(tmp_path, (RIGHT, RIGHT), (RIGHT, lost(40)), (lost(40), RIGHT))
    assert retention.status == 1
    assert retention.sentence == "The tuned model lost more than 2.0 points on b1."
    assert [line[-1].partition(":")[0] for line in table(retention)[1]] == ["kept", "lost", "kept, and better"]


def test_a_metric_where_less_is_better_is_turned_round(tmp_path: Path) -> None:
    sides = {"tuned": [1.0] * 60, "base": [0.0] * 60}
    made = {n: write_run(tmp_path / n, rows(s, per_image=1), metric="chair") for n, s in sides.items()}
    retention = retained("runs/mine", [("chair", made["tuned"], made["base"])], max_loss=0.02)
    (one,) = retention.benchmarks
    assert (one.change, one.kept, one.gained, one.lost) == (-1.0, "lost", 0, 60)
    benchmarks: Any = as_json(retention)["benchmarks"]
    assert [(group["change"], group["interval"]) for group in benchmarks[0]["groups"]] == [(-1.0, (-1.0, -1.0))] * 2


def test_other_questions_are_refused(tmp_path: Path) -> None:
    tuned, base = (write_run(tmp_path / n, [row(f"{n}{i}", 1.0) for i in range(3)]) for n in ("tuned", "base"))
    with pytest.raises(VlmLitError, match="not asked the same"):
        retained("runs/mine", [("b", tuned, base)], max_loss=0.02)


def test_the_page_shows_what_was_lost_before_what_was_gained(tmp_path: Path) -> None:
    mixed = [1.0 - score if i < 20 else score for i, score in enumerate(RIGHT)]
    retention = found(tmp_path, (RIGHT, mixed))
    page = as_page(retention, examples=3)
    assert page.index("<h3>Lost</h3>") < page.index("<h3>Gained</h3>")
    assert page.count("<article>") == 6
    assert 'src="http' not in page
    said = as_json(retention)
    assert said["status"] == retention.status
    assert '"q0"' not in page
