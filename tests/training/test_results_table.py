"""Tests of the results table: every score once, whole names and three decimals, in narrow terminals too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runs import run_dir, verb
from vlm_lit.training.callbacks.results_table import results_text

LONG = "vqa_accuracy[normalize=always,prediction_processor=m4c]"


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(("name", "split"), [("test", "test"), ("validate", "val")])
def test_a_tests_scores_are_shown_once(
    name: str,
    split: str,
    columns: int,
    config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    path = config()
    assert verb(name, path) == 0
    shown = capsys.readouterr().out
    file = "results.json" if split == "test" else "val_results.json"
    metrics = json.loads((run_dir(path) / file).read_text())["metrics"]
    assert f"{split}:" in shown.splitlines()
    assert re.search(r"^ +vqa_accuracy +exact_match(?: +loss)?$", shown, re.MULTILINE)
    loss = f" +{metrics['loss']:.3f}" if "loss" in metrics else ""
    values = f"{metrics['vqa_accuracy']:.3f} +{metrics['exact_match']:.3f}{loss}"
    assert len(re.findall(rf"^overall +{values}$", shown, re.MULTILINE)) == 1
    assert shown.count("vqa_accuracy") == shown.count("exact_match") == 1
    assert "DataLoader" not in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert max(map(len, shown.splitlines())) <= columns


def test_verbose_false_shows_none(config: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("test", config(), "--verbose=false") == 0
    assert "vqa_accuracy" not in capsys.readouterr().out


def test_groups_are_lines_and_metrics_columns() -> None:
    values = {"test/anls": 0.5, "test/anls/yes/no": 1 / 3, "test/ece": 0.0625, "test/anls/number": 1.0, "own": 2.0}
    assert results_text(values, "test", 80).splitlines() == [
        "test:",
        "          anls    ece    own",
        "overall  0.500  0.062  2.000",
        "number   1.000              ",
        "yes/no   0.333              ",
    ]


def test_names_that_are_too_wide_for_columns_stand_whole_in_a_list() -> None:
    values = {f"test/{LONG}": 0.5, f"test/{LONG}/number": 0.25, "test/exact_match[case=true]": 1.0}
    wide, narrow = (results_text(values, "test", width).splitlines() for width in (120, 60))
    assert len(wide) == len(narrow) == 4
    assert f"{LONG}/number" in narrow[2]
    assert [line.split()[-1] for line in narrow[1:]] == ["0.500", "0.250", "1.000"]
    assert [line.split()[0] for line in wide[2:]] == ["overall", "number"]
