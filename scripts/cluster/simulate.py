"""Simulation of a step's time against ranks, and where its bottleneck stands on 8, 64 and 512 devices.

    python -m vlm_lit workbench --output workbench
    python scripts/cluster/simulate.py measure --output measured.json
    python scripts/cluster/simulate.py show --measured measured.json --plot ranks.png

`measure` trains the quickstart's model on one rank and on two, with one thread each: let nothing else run beside it.
`show` says what the arithmetic (step_time.py) makes of the one-rank runs for two ranks, beside what was measured there,
and then what it makes of 7B and 70B on a cluster. Every figure of that cluster is an option; --help has their sources.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE: Final = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from clusters import FIGURES, add_figures, machine_of, workloads  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from rank_runs import Measured, fitted, measure, predicted  # noqa: E402
from step_time import Machine, Workload, efficiency, step_parts  # noqa: E402

from vlm_lit.plot_style import COLOURS, STYLE, as_png, as_svg, plain  # noqa: E402

RANKS: Final = (8, 64, 512)
_CURVE: Final = tuple(2**k for k in range(10))
_PARTS: Final = ("computing", "fixed", "uneven", "summing", "gathering", "agreeing", "data")


def comparison(measured: Measured) -> str:
    """Two ranks as they were measured, beside what follows from one rank."""
    one, two = measured.of(1)[0], measured.of(2)[0]
    parts = predicted(measured, 2, two.spread or 0.0)
    work, machine = fitted(measured)
    found = one.typical / two.typical
    expected = one.typical / parts.seconds
    milliseconds = {name: 1000 * getattr(parts, name) for name in _PARTS}
    made_of = ", ".join(f"{name} {value:.0f} ms" for name, value in milliseconds.items() if value)
    return "\n".join(
        [
            f"{measured.machine}: {one.conversations} conversations a step, one thread a rank.",
            f"One rank: {1000 * one.typical:.0f} ms a step, {1000 * work.seconds_fixed:.0f} ms of it at any size.",
            f"Gradients: {measured.summed_bytes / 1e6:.1f} MB; two ranks sum {machine.link / 1e9:.2f} GB a second.",
            f"Two ranks, measured:  {1000 * two.typical:.0f} ms, {found:.2f} times as fast.",
            f"Two ranks, simulated: {1000 * parts.seconds:.0f} ms, {expected:.2f} times as fast ({made_of}).",
            f"Measured speed is {found / expected - 1:+.0%} from simulated.",
        ]
    )


def table(works: dict[str, Workload], machine: Machine, ranks: Sequence[int] = RANKS) -> str:
    """A row for each workload and number of ranks: each part's share of a step, and the largest besides computing."""
    rows = [
        "| workload | devices | seconds a step | efficiency | "
        + " | ".join(f"{name} %" for name in _PARTS)
        + " | bottleneck |",
        "|---|" + "---|" * (len(_PARTS) + 4),
    ]
    for name, work in works.items():
        for count in ranks:
            parts = step_parts(work, machine, count)
            shares = " | ".join(f"{100 * getattr(parts, part) / parts.seconds:.0f}" for part in _PARTS)
            rows.append(
                f"| {name} | {count} | {parts.seconds:.2f} | {efficiency(work, machine, count):.0%} | {shares} "
                f"| {parts.bottleneck} |"
            )
    return "\n".join(rows)


def drawn(works: dict[str, Workload], machine: Machine) -> Figure:
    """Efficiency against devices, a line for each workload."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for colour, (name, work) in zip(COLOURS, works.items(), strict=False):
        axes.plot(_CURVE, [efficiency(work, machine, n) for n in _CURVE], color=colour, marker="o", ms=3, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(_CURVE, [str(n) for n in _CURVE])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("devices, as many conversations on each")
    axes.set_ylabel("conversations a second of a device,\nof those of one alone without padding")
    axes.legend(frameon=False, fontsize=8)
    plain(axes, grid="y")
    return figure


def main() -> int:
    """Measure, or show; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measuring = verbs.add_parser("measure", help="train on one and two ranks of this machine, and keep the times")
    measuring.add_argument("--config", type=Path, default=Path("configs/quickstart.yaml"))
    measuring.add_argument("--conversations", type=int, default=64, help="of a step, over all ranks; an even number")
    measuring.add_argument("--steps", type=int, default=12, help="that are timed, of each of three runs")
    measuring.add_argument("--output", type=Path, required=True)
    showing = verbs.add_parser("show", help="print the table, and the comparison with what was measured")
    showing.add_argument("--measured", type=Path, help="a file that `measure` has written")
    showing.add_argument("--plot", type=Path, help="where to draw efficiency against devices (.png or .svg)")
    add_figures(showing)
    given = parser.parse_args()
    if given.verb == "measure":
        measure(given.config, given.conversations, given.steps).write(given.output)
        print(comparison(Measured.read(given.output)))
        return 0
    if given.measured is not None:
        print(comparison(Measured.read(given.measured)) + "\n")
    machine, works = machine_of(given), workloads(given)
    print("\n".join(f"{name} {getattr(given, name):g}: {f.meaning} ({f.source})" for name, f in FIGURES.items()))
    print("\n" + table(works, machine))
    if given.plot is not None:
        with_style(given.plot, works, machine)
    return 0


def with_style(path: Path, works: dict[str, Workload], machine: Machine) -> None:
    """Draw the plot into a file."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure = drawn({name: replace(work) for name, work in works.items()}, machine)
        path.write_bytes(as_svg(figure) if path.suffix == ".svg" else as_png(figure))


if __name__ == "__main__":
    sys.exit(main())
