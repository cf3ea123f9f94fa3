"""Tests of the simulation of step time against ranks: its limits, its fit, and what it says of a cluster."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "cluster"))

import clusters
import rank_runs
import simulate
from rank_runs import Measured, MeasuredRun
from step_time import Machine, StepParts, Workload, efficiency, step_parts

MACHINE = Machine(devices=8, link=400e9, network=40e9, latency=1e-5)
WORK = Workload(conversations=8, seconds_each=0.1, summed_bytes=1e9, gathered_bytes=4e9, micro_batches=2, cv=0.5)
RANKS = st.integers(1, 64)


@given(ranks=RANKS)
def test_without_messages_and_with_equal_rows_ranks_are_used_in_full(ranks: int) -> None:
    work = Workload(conversations=8, seconds_each=0.1, seconds_fixed=0.05)
    assert efficiency(work, MACHINE, ranks) == pytest.approx(1.0)
    assert step_parts(work, MACHINE, ranks).seconds == pytest.approx(0.85)


@pytest.mark.parametrize("part", ["summed_bytes", "gathered_bytes"])
def test_more_bytes_and_more_ranks_take_longer_and_faster_links_less(part: str) -> None:
    work = replace(WORK, cv=0.0, **{"summed_bytes": 0.0, "gathered_bytes": 0.0, part: 1e9})  # type: ignore[arg-type]
    times = [step_parts(work, MACHINE, ranks).seconds for ranks in (1, 2, 8, 9, 64, 512)]
    assert times == sorted(times)
    assert times[0] == pytest.approx(0.8)  # one rank sends nothing
    for ranks in (2, 64):
        slow = step_parts(work, MACHINE, ranks).seconds
        assert step_parts(replace(work, **{part: 2e9}), MACHINE, ranks).seconds > slow  # type: ignore[arg-type]
        fast = replace(MACHINE, link=1e15, network=1e15, latency=0.0)
        assert step_parts(work, fast, ranks).seconds == pytest.approx(0.8, rel=1e-4)


def test_a_sum_takes_what_a_ring_takes() -> None:
    machine = Machine(devices=8, link=1e9, network=1e8, latency=0.0)
    work = Workload(conversations=0, seconds_each=0.0, summed_bytes=1e9)
    assert step_parts(work, machine, 2).summing == pytest.approx(1.0)  # each sends half twice
    assert step_parts(work, machine, 8).summing == pytest.approx(1.75)
    assert step_parts(work, machine, 16).summing == pytest.approx(18.75)  # between machines
    gathering = replace(work, summed_bytes=0.0, gathered_bytes=1e9, micro_batches=3)
    assert step_parts(gathering, machine, 2).gathering == pytest.approx(
        2 * 3 * 0.5
    )  # forward and backward, three times
    hidden = replace(gathering, conversations=1, seconds_each=1.0, hidden=1.0)
    assert step_parts(hidden, machine, 2).gathering == pytest.approx(2.0)


def test_hosts_that_agree_go_round_all_ranks_for_each_layer_and_are_ahead_of_computing() -> None:
    machine = Machine(devices=8, link=1e15, network=1e15, latency=0.0, hop=1e-4)
    work = Workload(conversations=1, seconds_each=0.5, gathered_bytes=1.0, gathered_layers=10, micro_batches=2)
    assert step_parts(work, machine, 1).agreeing == 0.0
    assert step_parts(work, machine, 101).agreeing == 0.0  # 40 rounds of 100 words: 0.4 s
    assert step_parts(work, machine, 201).agreeing == pytest.approx(0.3)
    assert step_parts(replace(work, gathered_layers=0), machine, 201).agreeing == 0.0


def test_a_step_waits_for_data_alone_where_these_are_slower() -> None:
    work = Workload(conversations=8, seconds_each=0.1, supply=20.0)
    assert step_parts(work, MACHINE, 4).data == 0.0  # 0.4 s for what takes 0.8 s to compute
    slow = step_parts(replace(work, supply=5.0), MACHINE, 4)
    assert slow.seconds == pytest.approx(1.6)
    assert slow.bottleneck == "data"


def test_uneven_rows_cost_what_the_package_deals() -> None:
    drawn = step_parts(WORK, MACHINE, 8)
    assert 0 < drawn.uneven < 0.5 * drawn.computing
    assert step_parts(replace(WORK, cv=0.0), MACHINE, 8).uneven == 0.0
    assert step_parts(WORK, MACHINE, 8, spread=0.25).uneven == pytest.approx(0.2)


# Fitting -------------------------------------------------------------------------------------------------------------


def measured(two: float = 0.6) -> Measured:
    """A rank takes 0.1 s and 0.01 s a conversation; a sum takes 1 ms and a second a gigabyte."""
    return Measured(
        runs=(
            MeasuredRun(ranks=1, conversations=32, seconds=(0.42, 0.42, 9.0)),
            MeasuredRun(ranks=1, conversations=64, seconds=(0.74, 0.7, 0.78)),
            MeasuredRun(ranks=2, conversations=64, seconds=(two,), spread=0.1),
        ),
        all_reduce=((0.0, 0.001), (1e8, 0.101)),
        summed_bytes=5e7,
        machine="drawn",
    )


def test_the_fit_finds_what_the_times_were_made_of_and_never_looks_at_two_ranks() -> None:
    work, machine = rank_runs.fitted(measured())
    assert work.seconds_each == pytest.approx(0.01)
    assert work.seconds_fixed == pytest.approx(0.1)
    assert machine.link == pytest.approx(1e9)
    assert machine.latency == pytest.approx(0.0005)
    parts = rank_runs.predicted(measured(), 2, 0.1)
    expected = {"computing": 0.32, "fixed": 0.1, "uneven": 0.032, "summing": 0.051}
    expected |= {"gathering": 0.0, "agreeing": 0.0, "data": 0.0}
    assert vars(parts) == pytest.approx(expected)
    assert rank_runs.predicted(measured(two=5.0), 2, 0.1) == parts
    assert rank_runs.predicted(measured(), 1, 0.0).seconds == pytest.approx(0.74)


def test_times_that_no_line_fits_are_taken_as_proportional() -> None:
    odd = replace(measured(), runs=(*measured().runs[1:], MeasuredRun(ranks=1, conversations=32, seconds=(0.2,))))
    work, _ = rank_runs.fitted(odd)
    assert work.seconds_fixed == 0.0
    assert work.seconds_each == pytest.approx(0.74 / 64)


def test_the_comparison_says_both_speeds_and_a_file_gives_back_what_was_kept(tmp_path: Path) -> None:
    measured().write(tmp_path / "measured.json")
    assert Measured.read(tmp_path / "measured.json") == measured()
    said = simulate.comparison(measured())
    assert "Two ranks, measured:  600 ms, 1.23 times as fast." in said
    assert "Two ranks, simulated: 503 ms, 1.47 times as fast (computing 320 ms, fixed 100 ms" in said
    assert "Measured speed is -16% from simulated." in said


def test_bare_sums_over_two_processes_are_timed() -> None:
    (small, short), (large, long) = rank_runs.timed_sums([4096, 2**24])
    assert (small, large) == (4096, 2**24)
    assert short > 0
    assert long > 0


# A cluster -----------------------------------------------------------------------------------------------------------


def figures(**changed: float) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    clusters.add_figures(parser)
    return parser.parse_args([f"--{name}={value}" for name, value in changed.items()])


def test_models_have_their_published_sizes() -> None:
    assert clusters.LLAMA_7B.parameters == pytest.approx(6.738e9, rel=1e-3)
    assert clusters.LLAMA_70B.parameters == pytest.approx(68.98e9, rel=1e-3)
    assert clusters.LLAMA_7B.lora_parameters(16) == 39_976_960  # what PEFT counts
    assert clusters.LLAMA_7B.parameters * clusters.NF4_BYTES == pytest.approx(3.5e9, rel=0.02)


def test_the_table_has_a_row_for_each_workload_and_count_whose_shares_are_the_whole() -> None:
    given = figures(cv=0.0)
    works = clusters.workloads(given)
    lines = simulate.table(works, clusters.machine_of(given)).splitlines()[2:]
    assert len(lines) == len(works) * 3
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert sum(map(int, cells[4:11])) == pytest.approx(100, abs=3)
        assert cells[11] in {part.name for part in fields(StepParts)}
    bottlenecks = {tuple(line.split("|")[1:3]): line.split("|")[12].strip() for line in lines}
    # A network between machines shows where the base is split or all weights are trained, and not where LoRA alone is.
    assert bottlenecks[(" 7B, all weights trained ", " 64 ")] == "summing"
    assert bottlenecks[(" 70B, LoRA, base split ", " 64 ")] == "gathering"
    assert bottlenecks[(" 7B, LoRA, base split ", " 512 ")] == "agreeing"
    assert bottlenecks[(" 7B, LoRA, base on each device ", " 8 ")] == "fixed"


def test_slow_workers_are_the_bottleneck_everywhere() -> None:
    given = figures(worker=0.01, cv=0.0)
    for work in clusters.workloads(given).values():
        assert step_parts(work, clusters.machine_of(given), 8).bottleneck == "data"


@pytest.mark.parametrize(("name", "starts"), [("ranks.png", b"\x89PNG"), ("ranks.svg", b"<?xml")])
def test_the_plot_is_drawn(name: str, starts: bytes, tmp_path: Path) -> None:
    given = figures(cv=0.0)
    works, machine = clusters.workloads(given), clusters.machine_of(given)
    simulate.with_style(tmp_path / name, works, machine)
    assert (tmp_path / name).read_bytes().startswith(starts)
    figure = simulate.drawn(works, machine)
    assert isinstance(figure, Figure)
    for line in figure.axes[0].lines:
        heights = [float(y) for y in line.get_ydata()]  # type: ignore[union-attr, arg-type]
        assert all(0 < y <= 1 + 1e-9 for y in heights)
        assert math.isclose(heights[0], 1.0)
