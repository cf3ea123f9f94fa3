"""Benchmark of the same training here and with TRL's SFTTrainer: speed and memory.

    pip install -e '.[bench]'
    python scripts/benchmark/against_trl.py --output scripts/benchmark/results/against_trl.json

Each run is a process of its own; ours and theirs take turns. Before that each side tries several micro-batches and
keeps the smallest that is about as fast as its fastest. Both train the same model on the same files in the same order,
and every step's loss is compared. `--growth` measures the points of the plot instead. README.md beside this file says
what is the same on both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import comparing
import provenance
import shapes
import workloads
from comparing import Run
from workloads import Workload

from vlm_lit.cli import SPIN_COUNT
from vlm_lit.data.datamodule import ConversationDataModule

HERE: Final = Path(__file__).parent
SIDES: Final = {"ours": "ours.py", "trl": "theirs.py", "trl_supervised_head": "theirs.py"}
"""The script of each side. `trl_supervised_head` is TRL with the head on supervised positions alone, which it does
where Triton is: on a CPU without that, it runs the head on every position."""
_FP32: Final = {"precision": "fp32"}
PARTS: Final = {
    "vision_tower": _FP32,
    "projector": {**_FP32, "training": "full"},
    "language_model": {"precision": "nf4", "training": "lora"},
    "head": _FP32,
}
LORA: Final = {"rank": 16, "alpha": 32.0, "dropout": 0.0, "targets": ["attention"]}
QUESTIONS_PER_ROW: Final = 8
FEATURE_CACHE: Final = "feature_cache"
AS_FAST: Final = 0.9
"""A side takes the smallest micro-batch that has this share of its fastest one's speed: less memory for no time."""


class Bench:
    """A workload's files and the runs over them.

    Args:
        workload: what is measured.
        folder: an empty folder for checkpoint, data and runs.
        threads: threads of each run.
    """

    sides: Mapping[str, str] = SIDES

    def __init__(self, workload: Any, folder: Path, threads: int) -> None:  # noqa: ANN401 - each bench has its kind
        self.workload, self.folder, self.threads = workload, folder, threads
        self.parameters = shapes.save(folder / "checkpoint", workload.shape, workload.image_tokens)
        self.train, self.steps = self.written()
        self._runs = 0

    def written(self) -> tuple[Path, list[list[dict[str, Any]]]]:
        """The workload's file and the rows of each step."""
        train = workloads.write(self.folder / "data", self.workload)
        return train, workloads.steps_of(json.loads(train.read_text()), self.workload, QUESTIONS_PER_ROW)

    @property
    def keeps_features(self) -> bool:
        """Whether ours keeps what the vision tower says of an image."""
        return self.workload.passes > 1 and can_cache()

    @classmethod
    def is_ours(cls, side: str) -> bool:
        """Whether a side is this package."""
        return cls.sides[side] == SIDES["ours"]

    def run(self, side: str, micro_batch: int, steps: int | None = None, *, count_tensors: bool = False) -> Run:
        """Run one side in a process of its own.

        Args:
            side: a key of `sides`.
            micro_batch: rows of a forward pass.
            steps: stop after so many steps; null for all.
            count_tensors: count the bytes of its tensors, at the cost of its speed.

        Returns:
            Speed, memory and losses, and what made them.
        """
        if self.workload.batch % micro_batch:
            raise SystemExit(
                f"{self.workload.batch} conversations a step do not divide by a micro-batch of {micro_batch}."
            )
        self._runs += 1
        place = self.folder / f"{self._runs:03d}"
        place.mkdir()
        asked, result = place / "run.json", place / "result.json"
        asked.write_text(json.dumps(self.asked(side, micro_batch, steps, place) | {"count_tensors": count_tensors}))
        threads = str(self.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment |= {"GOMP_SPINCOUNT": SPIN_COUNT, "TOKENIZERS_PARALLELISM": "false"}
        environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(self.folder / "hf")}
        command = [sys.executable, str(HERE / self.sides[side]), str(asked), str(result)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{done.stderr[-4000:]}")
        return {
            "side": side,
            "micro_batch": micro_batch,
            **comparing.figures(json.loads(result.read_text()), self.workload),
        }

    def asked(self, side: str, micro_batch: int, steps: int | None, place: Path) -> Run:
        """What a side's script is told of a run in the folder `place`."""
        work = self.workload
        ours: Run = {"questions_per_row": QUESTIONS_PER_ROW}
        if self.keeps_features:
            ours[FEATURE_CACHE] = str(place / "features")  # an empty one: filling it is part of the time
        return {
            "checkpoint": str(self.folder / "checkpoint"),
            "train": str(self.train),
            "steps": self.steps[:steps],
            "max_steps": len(self.steps[:steps]),
            "batch": work.batch,
            "micro_batch": micro_batch,
            "passes": work.passes,
            "parts": PARTS,
            "lora": LORA,
            "compute": "fp32",
            "autocast": False,
            "device": "cpu",
            "checkpointing": False,
            "learning_rate": 2e-4,
            "seed": workloads.SEED,
            "head": "supervised" if side == "trl_supervised_head" else "as_shipped",
            "data": ours,
        }

    def chosen(self, side: str, candidates: Iterable[int]) -> tuple[int, list[Run]]:
        """The smallest micro-batch that is about as fast as any, by one step each (and a first that does not count)."""
        steps = 1 if self.workload.whole_course else 2
        tried = [self.run(side, rows, steps=steps) for rows in candidates if self.workload.batch % rows == 0]
        fastest = max(run["samples_per_second"] for run in tried)
        return min(run["micro_batch"] for run in tried if run["samples_per_second"] >= AS_FAST * fastest), tried

    def tensor_bytes(self, side: str, micro_batch: int) -> int:
        """The most bytes of a side's tensors at once, beyond the loaded model's: of two steps, which reach it."""
        found: int = self.run(side, micro_batch, steps=2, count_tensors=True)["tensor_bytes"]
        return found


def can_cache() -> bool:
    """Whether vision features can be kept on disk."""
    from inspect import signature

    return FEATURE_CACHE in signature(ConversationDataModule.__init__).parameters


def measure(workload: Workload, sides: Sequence[str], options: argparse.Namespace, kind: type[Bench] = Bench) -> Run:
    """Tune each side, let them take turns, compare."""
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        bench = kind(workload, Path(folder), options.threads)
        tried: dict[str, list[Run]] = {}
        chosen: dict[str, int] = {}
        for side in sides:
            candidates = options.ours_rows if kind.is_ours(side) else options.trl_rows
            fixed = len(candidates) == 1
            chosen[side], tried[side] = (candidates[0], []) if fixed else bench.chosen(side, candidates)
            print(f"{workload.name}: {side} takes micro_batch {chosen[side]}", flush=True)
        runs = []
        for _ in range(options.repeats):
            for side in sides:
                runs.append(bench.run(side, chosen[side]))
                print(f"{workload.name}: {comparing.line(runs[-1])}", flush=True)
        check_order([run for run in runs if kind.is_ours(run["side"])], bench.steps)
        counted = {} if options.growth else {side: bench.tensor_bytes(side, chosen[side]) for side in sides}
        own, others = ([side for side in sides if kind.is_ours(side) is ours] for ours in (True, False))
        compared = [comparing.comparison(runs, counted, side, mine) for side in others for mine in own]
        for found in compared:
            print(f"{workload.name}: {comparing.verdict(found)}", flush=True)
        return {
            "workload": asdict(workload),
            "parameters": bench.parameters,
            "feature_cache": bench.keeps_features,
            "tried": {side: [_short(run) for run in made] for side, made in tried.items()},
            "runs": [_short(run) for run in runs],
            "tensor_bytes": counted,
            "comparisons": compared,
        }


def check_order(runs: Sequence[Run], steps: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Stop if one of our runs saw other conversations in a step than the other side was given."""
    given = [sorted(row["id"] for row in step) for step in steps]
    if any(run["ids"] != given for run in runs):
        raise SystemExit("The two sides saw different conversations in a step.")


def _short(run: Run) -> Run:
    return {name: value for name, value in run.items() if name != "ids"}


def asked_for(options: argparse.Namespace) -> list[Workload]:
    """The workloads of the command line."""
    chosen = [w for w in workloads.GOALS if not options.workloads or w.name in options.workloads]
    if options.growth:
        chosen = [workloads.growth(q, t) for q in options.questions for t in options.image_tokens]
    return [replace(w, steps=options.steps) if options.steps else w for w in chosen]


def parser_of(about: str | None, goals: Sequence[Workload]) -> argparse.ArgumentParser:
    """What every bench against TRL is asked on its command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="*", choices=[w.name for w in goals], help="default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, help="measured steps of a run; default: the workload's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ours-rows", nargs="+", type=int, default=[1, 2, 4], help="our micro-batches to try")
    parser.add_argument("--scratch", type=Path, help="where temporary files go")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = parser_of(__doc__, workloads.GOALS)
    parser.add_argument("--growth", action="store_true", help="samples/s over questions and image tokens instead")
    parser.add_argument("--questions", nargs="+", type=int, default=[1, 2, 5, 10], help="with --growth")
    parser.add_argument("--image-tokens", nargs="+", type=int, default=list(shapes.SIDES), help="with --growth")
    parser.add_argument("--trl-rows", nargs="+", type=int, default=[1, 2, 4, 10], help="TRL's batch sizes to try")
    parser.add_argument("--opponents", nargs="+", choices=[s for s in SIDES if s != "ours"], default=["trl"])
    return parser.parse_args()


def write_all(options: argparse.Namespace, measured: Iterable[Run]) -> None:
    """Measure workload by workload; the file is written anew after each, and keeps its results of other workloads."""
    for result in measured:
        if options.output is not None:
            about = {**provenance.of_this_run(), "threads": options.threads}
            own = {name: about[name] for name in ("commit", "date", "threads")} | {"repeats": options.repeats}
            results = comparing.with_result(_kept(options.output), {**result, **own})
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps({**about, "results": results}, indent=1) + "\n", encoding="utf-8")


def _kept(path: Path) -> list[Run]:
    found: list[Run] = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
    return found


def main() -> None:
    """Measure what is asked for."""
    options = parsed()
    write_all(options, (measure(workload, ["ours", *options.opponents], options) for workload in asked_for(options)))


if __name__ == "__main__":
    main()
