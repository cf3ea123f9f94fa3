"""Tests of a run judged by hallucinated objects of one's own: logged, kept, scored anew and compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runs import predictions, run_dir, scalars, verb
from vlm_lit.cli import main
from vlm_lit.metrics.catalogue import rule

Config = Callable[..., Path]


def test_a_run_is_judged_by_ones_own_objects(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "colours.json"
    words = ["red", "green", "blue", "yes", "no", *"abcdefghijklmnopqrstuvwxyz"]  # whatever a tiny model says
    table.write_text(json.dumps({word: [word] for word in words}))
    name = rule("chair", {"objects": str(table)}).name
    assert name.startswith("chair[objects=colours-")
    path = config(model={"metrics": [{"name": "chair", "options": {"objects": str(table)}}]})
    assert verb("fit", path, "--keep_best", f"val/{name}/chair_i") == 0
    assert {f"val/{name}", f"val/{name}/chair_i", f"val/{name}/coverage"} <= scalars(run_dir(path)).keys()
    assert json.loads((run_dir(path) / "checkpoints" / "best.json").read_text())["mode"] == "min"

    assert verb("test", path) == 0
    results = json.loads((run_dir(path) / "results.json").read_text())
    rows = predictions(run_dir(path))
    assert results["metrics"][name] == sum(row["score"] for row in rows) / len(rows)
    assert "misses" not in results  # 0 is the best score

    output = tmp_path / "scores.json"
    records = ["--records", str(run_dir(path) / "predictions.jsonl"), "--output", str(output)]
    assert main(["score", "--metric", "chair", "--options.objects", str(table), *records]) == 0
    found = json.loads(output.read_text())
    assert found["metric"] == name
    assert found["overall"] / 100 == pytest.approx(results["metrics"][name])
    for detail in ("chair_s", "chair_i", "coverage", "silent"):
        assert found["details"][detail] / 100 == pytest.approx(results["metrics"][f"{name}/{detail}"])
    assert found["details"]["mentions"] == pytest.approx(results["metrics"][f"{name}/mentions"])

    capsys.readouterr()
    assert main(["compare", str(output), str(output), "--names", "a,b", "--output", str(tmp_path / "page")]) == 0
    assert "Lower is better by this metric" in (tmp_path / "page" / "comparison.html").read_text()
