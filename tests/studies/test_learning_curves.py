"""Tests of learning curves: read back from TensorBoard files, and what is made of them."""

from collections.abc import Callable
from pathlib import Path

from tests.support.event_files import write_events
from vlm_lit.cli import main
from vlm_lit.studies.run_files.learning_curves import (
    Curve,
    Reached,
    band,
    first_at,
    read_curves,
    smoothed,
    smoothing_window,
)


def curve(*values: float, every: int = 1) -> Curve:
    steps = tuple(every * (i + 1) for i in range(len(values)))
    return Curve(steps=steps, seconds=tuple(10.0 * i for i in range(len(values))), values=values)


def test_steps_count_from_one_and_seconds_from_the_first_logged(tmp_path: Path) -> None:
    write_events(tmp_path, {"train/loss": [(0, 5, 2.0), (1, 7, 1.5), (2, 9, 1.25)], "val/exact_match": [(1, 8, 0.5)]})
    found = read_curves(tmp_path)
    assert found["train/loss"] == Curve(steps=(1, 2, 3), seconds=(0, 2, 4), values=(2.0, 1.5, 1.25))
    assert found["val/exact_match"] == Curve(steps=(2,), seconds=(3,), values=(0.5,))


def test_a_resumed_run_goes_on_where_it_was_resumed(tmp_path: Path) -> None:
    first = {"train/loss": [(0, 0, 4.0), (1, 10, 3.0), (2, 20, 9.0)], "val/exact_match": [(2, 21, 0.1)]}
    again = {"train/loss": [(2, 5000, 2.0), (3, 5010, 1.0)], "val/exact_match": [(3, 5011, 0.75)]}
    write_events(tmp_path, again, suffix=".1")
    write_events(tmp_path, first, suffix=".2")
    found = read_curves(tmp_path)
    loss, judged = found["train/loss"], found["val/exact_match"]
    # The break and the lost step are left out.
    assert loss == Curve(steps=(1, 2, 3, 4), seconds=(0, 10, 10, 20), values=(4.0, 3.0, 2.0, 1.0))
    assert judged == Curve(steps=(4,), seconds=(21,), values=(0.75,))


def test_a_test_after_the_fit_is_no_part_of_it(tmp_path: Path) -> None:
    write_events(tmp_path, {"test/exact_match": [(0, 9000, 0.5)]}, suffix=".test")
    assert read_curves(tmp_path) == {}
    write_events(tmp_path, {"train/loss": [(0, 0, 1.0), (1, 3, 0.5)]}, suffix=".fit")
    assert list(read_curves(tmp_path)) == ["train/loss"]


def test_what_a_fit_logs_is_read(config: Callable[..., Path], tmp_path: Path) -> None:
    assert main(["fit", "--config", str(config())]) == 0
    found = read_curves(tmp_path / "run")
    assert found["train/loss"].steps == (1, 2, 3)
    assert found["train/loss"].seconds[0] == 0
    assert list(found["train/loss"].seconds) == sorted(found["train/loss"].seconds)


def test_smoothing_looks_back_only() -> None:
    found = smoothed(curve(4, 2, 0, 6), 2)
    assert found == Curve(steps=(2, 3, 4), seconds=(10, 20, 30), values=(3, 1, 3))
    assert smoothed(curve(4, 2), 1).values == (4, 2)


def test_all_are_smoothed_over_as_many_points() -> None:
    assert smoothing_window([curve(*range(50)), curve(*range(200))]) == 5
    assert smoothing_window([curve(1, 2)]) == 1
    assert smoothing_window([]) == 1


def test_when_a_loss_is_reached() -> None:
    falling = curve(4, 2, 3, 1, every=5)
    assert first_at(falling, 2) == Reached(steps=10, seconds=10)
    assert first_at(falling, 1.5) == Reached(steps=20, seconds=30)
    assert first_at(falling, 0.5) is None


def test_a_band_is_over_the_steps_that_all_have() -> None:
    found = band([curve(4, 2, 1), curve(2, 8, 3, 7)])
    assert (found.steps, found.mean, found.low, found.high, found.seeds) == (
        (1, 2, 3),
        (3, 5, 2),
        (2, 2, 1),
        (4, 8, 3),
        2,
    )
