"""Where a step's time goes: products, attention, unpacking of 4-bit weights and the rest, of training and answering.

    python scripts/benchmark/where.py --output scripts/benchmark/results/where.json
    python scripts/benchmark/where.py --sides trl --output scripts/benchmark/results/where.json    # where TRL is

Each run is a process of its own under torch's profiler, which makes steps a little longer and the share of Python
larger than it is. The products are put beside the machine's own peak, measured in the same process. `--stage` names
the state of the code: results of several stages stand beside each other in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import provenance
import workloads
from against_trl import SIDES, Bench
from comparing import Run
from workloads import Workload

HERE: Final = Path(__file__).parent
ANSWERING: Final = Workload(name="answering", says="answering, 5 questions an image", questions=5)
ALL: Final = (*workloads.GOALS, ANSWERING)
MAX_NEW_TOKENS: Final = 8
STEPS: Final = 4
"""One that warms up, one whose products are counted, one as usual, and one whose time is split."""


def asked(workload: Workload, side: str, micro_batch: int, folder: Path) -> Run:
    """What `where_run.py` is told of a workload whose files are written into an empty folder."""
    bench = Bench(workload, folder, threads=1)
    run = bench.asked("ours" if side == "answers" else side, micro_batch, STEPS, folder)
    return run | {"side": side, "max_new_tokens": MAX_NEW_TOKENS}


def profiled(run: Run, folder: Path, threads: int) -> Run:
    """What a run in a process of its own shows.

    Raises:
        SystemExit: it failed.
    """
    path, result = folder / "run.json", folder / "result.json"
    path.write_text(json.dumps(run))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    command = [sys.executable, str(HERE / "where_run.py"), str(path), str(result)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{run['side']} failed:\n{done.stderr[-4000:]}")
    found: Run = json.loads(result.read_text())
    return found


def judged(found: Run) -> Run:
    """Shares of the time, of the peak, and of the computed pairs of tokens that were needed."""
    total = sum(found["seconds"].values())
    products = found["seconds"]["products"]
    return found | {
        "shares": {kind: seconds / total for kind, seconds in found["seconds"].items()},
        "peak_share": found["flops"] / products / found["peak_flops"] if products else 0.0,
    }


def measure(options: argparse.Namespace) -> Iterator[Run]:
    """Run by run."""
    for workload in (w for w in ALL if not options.workloads or w.name in options.workloads):
        for side in options.sides:
            if workload is ANSWERING and side != "ours":
                continue  # it has no answering of its own
            kind = "answers" if workload is ANSWERING else side
            with tempfile.TemporaryDirectory(dir=options.scratch) as name:
                folder = Path(name)
                run = asked(replace(workload, steps=STEPS), kind, options.micro_batch, folder / "files")
                found = judged(profiled(run, folder, options.threads))
            shares = ", ".join(f"{kind} {share:.1%}" for kind, share in found["shares"].items())
            print(f"{workload.name}, {side}: {found['clock']:.2f} s, {shares}", flush=True)
            yield {"workload": asdict(workload), "side": side, "stage": options.stage, **found}


def identity(result: Run) -> tuple[str, ...]:
    """What a result is filed under."""
    return result["workload"]["name"], result["side"], result["stage"]


def main() -> None:
    """Measure what is asked for; the file is written anew after each run, and keeps its other results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="*", choices=[w.name for w in ALL], help="default: all")
    parser.add_argument("--sides", nargs="+", choices=[*SIDES], default=["ours"])
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stage", default="now", help="what the state of the code is called")
    parser.add_argument("--scratch", type=Path, help="where temporary files go")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    for result in measure(options):
        if options.output is None:
            continue
        about: dict[str, Any] = {**provenance.of_this_run(), "threads": options.threads}
        own = {name: about[name] for name in ("commit", "date")}
        kept = json.loads(options.output.read_text())["results"] if options.output.exists() else []
        results = {identity(one): one for one in kept} | {identity(result): result | own}
        options.output.write_text(json.dumps({**about, "results": list(results.values())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
