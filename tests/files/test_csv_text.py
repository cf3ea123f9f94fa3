"""Tests of CSV files for people: no cell is a formula, numbers stay numbers, and one function writes them all."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

import vlm_lit
from vlm_lit.files.csv_text import csv_text
from vlm_lit.studies.page_parts.adapter_anatomy_text import anatomy_csv
from vlm_lit.studies.run_files.adapter_anatomy import AdapterAnatomy, LoraUpdate
from vlm_lit.training.logged_media import log_table

FORMULAS = [
    "=1+1",
    " =1+1",
    "\n=1",
    "@x",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "\t=1",
    "\rx",
    "\uff1d1+1",
    "- red",
    "+1a",
    "a\r=1",
    "a\n=1",
]


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("cell", FORMULAS)
def test_no_cell_is_a_formula(cell: str) -> None:
    kept = cell if cell.startswith("a") else f"'{cell}"
    assert read(csv_text([[cell, "b"], ["a", cell]])) == [[kept, "b"], ["a", kept]]


def test_everything_else_stays() -> None:
    texts = ["a=1", "5 - 3", "rot, größer", 'a "b"', "", "-5", "+1.5e-3", "-.5", "x@y"]
    assert read(csv_text([texts])) == [texts]
    assert csv_text([[-0.1, 1e-17, -3, True, None]]) == "-0.1,1e-17,-3,True,\n"


def test_logged_answers_are_no_formulas(tmp_path: Path) -> None:
    log_table([CSVLogger(tmp_path, name="x")], "val/answers", ["id", "score"], [("=cmd", -0.5)], step=3)
    (written,) = tmp_path.rglob("step-000003.csv")
    assert written.read_text() == "id,score\n'=cmd,-0.5\n"


def test_the_names_in_an_adapter_are_no_formulas() -> None:
    update = LoraUpdate(part="projector", stack="+b", layer=None, leaf="@c", rank=2, singular_values=(1.0, 0.5))
    written = read(anatomy_csv(AdapterAnatomy(updates=(update,), in_full={})))
    assert written[1][:5] == ["projector", "'+b", "", "'@c", "2"]


def test_one_function_writes_every_file() -> None:
    folder = Path(vlm_lit.__file__).parent
    writes = re.compile(r"csv\.(?:writer|DictWriter)|\.to_csv\(")
    assert [p.name for p in folder.rglob("*.py") if writes.search(p.read_text())] == ["csv_text.py"]
