"""Speed of LoRA on a vision tower's last blocks with the frozen ones kept on disk, against the same without the store.

    python scripts/benchmark/tower_blocks.py --output scripts/benchmark/results/tower_blocks.json

The workload is `three_passes` of `against_trl.py`: tiled pictures, a tower two thirds of the language model. Filling
the store is part of the time. Both sides take turns; their losses are compared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import comparing
import provenance
import workloads
from against_trl import FEATURE_CACHE, PARTS, SIDES, Bench

OURS: Final = SIDES["ours"]


class TowerBench(Bench):
    """The workload with LoRA on the tower's last blocks, live and from the store."""

    sides: Mapping[str, str] = {"stored": OURS, "live": OURS}
    last_layers = 1

    def asked(self, side: str, micro_batch: int, steps: int | None, place: Path) -> dict[str, Any]:
        """What a run in the folder `place` is told."""
        found = super().asked(side, micro_batch, steps, place)
        tower = {"precision": "fp32", "training": "lora", "last_layers": self.last_layers}
        data = {name: value for name, value in found["data"].items() if name != FEATURE_CACHE}
        if side == "stored":
            data[FEATURE_CACHE] = str(place / "features")
        return {**found, "parts": {**PARTS, "vision_tower": tower}, "data": data}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--last_layers", type=int, default=1, help="blocks that train")
    parser.add_argument("--micro_batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="folder for the runs; null takes the system's")
    options = parser.parse_args()
    TowerBench.last_layers = options.last_layers
    workload = next(work for work in workloads.GOALS if work.name == "three_passes")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        bench, runs = TowerBench(workload, Path(folder), options.threads), []
        for _ in range(options.repeats):
            for side in TowerBench.sides:
                runs.append(bench.run(side, options.micro_batch))
                print(comparing.line(runs[-1]), flush=True)
    found = comparing.comparison(runs, {}, "live", "stored")
    print(comparing.verdict(found))
    result = {
        **provenance.of_this_run(), "workload": asdict(workload), "last_layers": options.last_layers,
        "threads": options.threads, "comparison": found,
        "runs": [{name: value for name, value in run.items() if name != "ids"} for run in runs],
    }  # fmt: skip
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
