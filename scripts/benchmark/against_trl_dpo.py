"""Benchmark of the same preference training here and with TRL's DPOTrainer: speed and memory.

    pip install -e '.[bench]'
    python scripts/benchmark/against_trl_dpo.py --output scripts/benchmark/results/against_trl_dpo.json

As `against_trl.py`, over pairs. Ours runs twice: `ours` computes what the reference and the vision tower say ahead of
its first step and keeps it (`reference_store`, `feature_cache`), `ours_live` asks both in every step, as TRL does. A
run is measured whole, the filling of empty stores included. README.md beside this file says what is the same on both
sides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import against_trl
import pair_workloads
from against_trl import QUESTIONS_PER_ROW
from comparing import Run

SIDES: Final = {
    "ours": "ours.py",
    "ours_live": "ours.py",
    "trl": "theirs_dpo.py",
    "trl_supervised_head": "theirs_dpo.py",
}
BETA: Final = 0.1


class PairBench(against_trl.Bench):
    """A workload of pairs and the runs over it."""

    sides: Mapping[str, str] = SIDES

    def written(self) -> tuple[Path, list[list[dict[str, Any]]]]:
        """The workload's file and the pairs of each step."""
        train = pair_workloads.write(self.folder / "data", self.workload)
        return train, pair_workloads.steps(json.loads(train.read_text()), self.workload, QUESTIONS_PER_ROW)

    @property
    def keeps_features(self) -> bool:
        """`ours` does, `ours_live` does not."""
        return True

    def asked(self, side: str, micro_batch: int, steps: int | None, place: Path) -> Run:
        """What a side's script is told of a run in the folder `place`."""
        run = super().asked(side, micro_batch, steps, place)
        stored = side == "ours"
        language_model = {**against_trl.PARTS["language_model"], "precision": self.workload.precision}
        return run | {
            "parts": {**against_trl.PARTS, "language_model": language_model},
            "beta": BETA,
            "data": run["data"] if stored else {**run["data"], against_trl.FEATURE_CACHE: None},
            "module": "vlm_lit.training.preference.PreferenceModule",
            "module_settings": {
                "losses": [{"name": "sigmoid", "beta": BETA}],
                "reference_store": str(place / "reference") if stored else None,
            },
            "data_module": "vlm_lit.data.preference_datamodule.PreferenceDataModule",
        }


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = against_trl.parser_of(__doc__, pair_workloads.GOALS)
    parser.add_argument("--trl-rows", nargs="+", type=int, default=[1, 2, 4], help="TRL's batch sizes to try")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES), help="in turn; default: all")
    parser.set_defaults(growth=False)
    return parser.parse_args()


def main() -> None:
    """Measure what is asked for."""
    options = parsed()
    chosen = [w for w in pair_workloads.GOALS if not options.workloads or w.name in options.workloads]
    chosen = [replace(w, steps=options.steps) if options.steps else w for w in chosen]
    measured = (against_trl.measure(workload, options.sides, options, PairBench) for workload in chosen)
    against_trl.write_all(options, measured)


if __name__ == "__main__":
    main()
