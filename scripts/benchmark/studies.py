"""Kept reports of finished studies, with commit and versions, as `results/studies/NAME.json`.

    python -m vlm_lit study report configs/study/NAME.yaml    # for each, after its `study run`
    python scripts/benchmark/studies.py --runs runs/study
    python scripts/benchmark/plots.py                         # the table of their claims, in vlm_lit/studies/README.md

Run it at the commit that the studies were run at.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import provenance

RESULTS: Final = Path(__file__).parent / "results" / "studies"


def kept(report: dict[str, Any]) -> dict[str, Any]:
    """A report with where it comes from.

    Raises:
        ValueError: some of its runs have no score.
    """
    if not report["finished"]:
        raise ValueError(f"{report['study']} is unfinished: {', '.join(str(run) for run in report['unfinished'])}")
    return {**provenance.of_this_run(), "report": report}


def main() -> None:
    """Keep every report that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="the folder with a folder for each study")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for path in sorted(options.runs.glob("*/report/report.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        text = json.dumps(kept(report), indent=1) + "\n"
        (options.output / f"{report['study']}.json").write_text(text, encoding="utf-8")
        print(report["study"])


if __name__ == "__main__":
    main()
