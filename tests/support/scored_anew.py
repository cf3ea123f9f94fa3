"""The result of `score` on a run's own answers, in the form of the run's `results.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlm_lit.cli import main


def scored_anew(run: Path, metric: Mapping[str, Any]) -> dict[str, float]:
    """The metric's values over `run/predictions.jsonl`, fractions, under the names that `results.json` has for them."""
    output = run / "scores.json"
    options = [f"--options.{name}={value}" for name, value in metric.get("options", {}).items()]
    files = ["--records", str(run / "predictions.jsonl"), "--output", str(output)]
    assert main(["score", "--metric", metric["name"], *files, *options]) == 0
    found = json.loads(output.read_text())
    output.unlink()
    groups = {f"{group}/{value}": part for group, parts in found["groups"].items() for value, part in parts.items()}
    values = {name: part["score"] for name, part in groups.items()} | found["details"]
    named = {f"{found['metric']}/{name.removeprefix('answer_type/')}": value for name, value in values.items()}
    return {name: value / 100 for name, value in {found["metric"]: found["overall"], **named}.items()}
