"""Tests of `anatomy`: the table and the files of a written adapter, and what is refused in one sentence."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from tests.studies.test_adapter_anatomy import LAYER, pair, written
from tests.support.refusals import refusal
from vlm_lit.cli import main
from vlm_lit.studies.run_files.adapter_anatomy import adapter_anatomy

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose adapter updates two layers, and whose projector was trained in full."""
    tensors = {**pair(LAYER.format(0, "q_proj")), **pair(LAYER.format(1, "v_proj"), rank=2, seed=1)}
    full = {"base_model.model.model.multi_modal_projector.linear_1.weight": torch.ones(3, 4)}
    (tmp_path / "run").mkdir()
    written(tmp_path / "run" / "adapter", {**tensors, **full})
    return tmp_path / "run"


def test_the_table_has_a_line_for_each_update(run: Path, capsys: Capture) -> None:
    assert main(["anatomy", str(run)]) == 0
    header, first, second, besides = capsys.readouterr().out.splitlines()
    assert header.split() == ["part", "stack", "layer", "matrix", "rank", "norm", "largest", "stable", "rank"]
    for line, update in zip((first, second), adapter_anatomy(run).updates, strict=True):
        figures = [f"{update.norm:.3f}", f"{update.singular_values[0]:.3f}", f"{update.stable_rank:.2f}"]
        place = [update.part, update.stack, str(update.layer), update.leaf, str(update.rank)]
        assert line.split() == [*place, *figures]
    assert besides == "Trained in full besides: projector (12 numbers)."
    assert sorted(path.name for path in run.iterdir()) == ["adapter"]


def test_a_folder_gets_the_table_and_the_plots(run: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "output"
    assert main(["anatomy", str(run / "adapter"), "--output", str(output)]) == 0
    plots = {f"{name}.{kind}" for name in ("norms", "singular_values") for kind in ("png", "svg")}
    assert {path.name for path in output.iterdir()} == {"updates.csv", *plots}
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"Written to {output}: updates.csv, norms.png, ")
    with (output / "updates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, update in zip(rows, adapter_anatomy(run).updates, strict=True):
        assert float(row["norm"]) == update.norm
        assert tuple(map(float, row["singular_values"].split())) == update.singular_values


def test_an_adapter_without_updates(tmp_path: Path, capsys: Capture) -> None:
    full = {"base_model.model.model.multi_modal_projector.linear_1.weight": torch.ones(3, 4)}
    assert main(["anatomy", str(written(tmp_path / "adapter", full))]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["No layer has a LoRA update.", "Trained in full besides: projector (12 numbers)."]


def test_what_cannot_be_read_or_written_is_refused_in_a_sentence(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "gone holds no adapter" in refusal(capsys, "anatomy", str(tmp_path / "gone"))
    assert "--outpt x. Did you mean --output?" in refusal(capsys, "anatomy", str(run), "--outpt", "x")
    (tmp_path / "file").touch()
    refused = refusal(capsys, "anatomy", str(run), "--output", str(tmp_path / "file"))
    assert f"--output {tmp_path / 'file'} cannot be written" in refused
