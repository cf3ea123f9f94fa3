"""Soak: hours of kills, damage and hostile input against the promises of reliability; prints what held.

    python scripts/soak/soak.py --kills 200 --steps 3000 --inputs 20000

Each part is a module beside this one with `run(options) -> list[Row]`. Exit status 1 where a promise broke.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")  # sums of one order in all runs, and no threads that wait for each other
HERE: Final = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from soak_rows import Row, table  # noqa: E402

FIRST: Final = ("kill_soak", "kill_controls", "flat_soak")
"""The parts that run before the others, which come in the order of their names."""


def parts() -> list[str]:
    """The modules beside this one that look at something."""
    found = [path.stem for path in sorted(HERE.glob("*.py")) if "\ndef run(" in path.read_text(encoding="utf-8")]
    return [*FIRST, *(name for name in found if name not in FIRST)]


def main() -> int:
    """Run the parts, print the table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs over one long run")
    parser.add_argument("--minutes", type=float, default=600, help="after which no more kills come; the run then ends")
    parser.add_argument("--steps", type=int, default=3000, help="optimizer steps over which memory is to be flat")
    parser.add_argument("--inputs", type=int, default=20_000, help="drawn inputs in all")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--folder", type=Path, default=Path("soak"), help="where runs and files are written")
    parser.add_argument("--parts", default=",".join(parts()), help="some of the parts, with commas")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.parts.split(","):
        if name not in parts():
            parser.error(f"{name} is no part; there are {', '.join(parts())}")
        begun = time.monotonic()
        print(f"{name} ...", flush=True)
        found: list[Row] = importlib.import_module(name).run(options)
        for row in found:
            print(f"  {'held' if row.held else 'BROKEN'}: {row.figure} -> {row.here}", flush=True)
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
        rows += found
    print(f"\n{table(rows)}")
    return 0 if rows and all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
