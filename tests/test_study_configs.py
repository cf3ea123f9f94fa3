"""Tests of configs/study/: every study is read, every cell is a run with the settings of its levels."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.test_configs import CONFIGS, printed
from vlm_lit.studies.running.cell import Cell, arguments, settings
from vlm_lit.studies.running.grid import cells
from vlm_lit.studies.running.study_file import Study, read_study

STUDIES = {path.stem: path for path in sorted((CONFIGS / "study").glob("*.yaml"))}
EVERY = pytest.mark.parametrize("name", STUDIES)
ASKED = {
    "lora_rank": 3, "lora_targets": 3, "lora_rank_targets": 9, "projector": 6, "precision": 4, "data_amount": 6,
    "depth": 3, "packing": 3, "vilt_freezing": 4, "preference_losses": 7,
    "preference_beta": 3, "retention": 3, "rank_scaling": 21, "adapters": 9, "steps": 4,
}  # fmt: skip
"""The studies that there are, with the number of their cells."""


def of_one_seed(study: Study) -> list[Cell]:
    """The cells but for their seeds."""
    return [cell for cell in cells(study) if cell.seed == study.seeds[0]]


def found_at(config: Mapping[str, Any], key: str) -> object:
    here: Any = config
    for name in key.split("."):
        here = here[name]
    return here


def holds(found: object, asked: object) -> bool:
    """Whether a setting is as it was asked for; what is left out of a mapping has its default."""
    if isinstance(asked, Mapping):
        return isinstance(found, Mapping) and all(holds(found.get(key), value) for key, value in asked.items())
    if isinstance(asked, list):
        same_length = isinstance(found, list) and len(found) == len(asked)
        return same_length and all(map(holds, found, asked))  # type: ignore[call-overload]
    return found == asked


def test_there_are_the_studies_that_the_readme_lists() -> None:
    assert {name: len(of_one_seed(read_study(path))) for name, path in STUDIES.items()} == ASKED
    readme = (CONFIGS / "README.md").read_text()
    assert [name for name in ASKED if f"`{name}`" not in readme] == []


@EVERY
def test_a_study_is_named_and_kept_as_its_file(name: str) -> None:
    study = read_study(STUDIES[name])
    assert (study.name, study.folder) == (name, Path("runs/study") / name)
    assert study.seeds[:3] == (0, 1, 2)
    assert study.claims
    assert all(0.02 <= claim.margin <= 0.03 for claim in study.claims if claim.kind == "equal")


@EVERY
def test_the_commands_that_write_its_data_stand_at_its_head(name: str) -> None:
    study, head = read_study(STUDIES[name]), STUDIES[name].read_text().split("\nname:")[0]
    first = "workbench_shifted" if name.startswith("preference") else "workbench"
    written = {first} | {
        str(path).split("/")[0]
        for cell in of_one_seed(study)
        for key, value in settings(study, cell).items()
        if key.endswith(".path")
        for path in (value if isinstance(value, list) else [value])
    }
    assert set(re.findall(r"python -m vlm_lit workbench --output (\w+)", head)) == written


@pytest.mark.slow(but_first=True)
@EVERY
def test_every_cell_is_a_run_with_the_settings_of_its_levels(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    study, seen = read_study(STUDIES[name]), list[dict[str, Any]]()
    bases = {"vilt": "vilt_workbench.yaml", "preference": "workbench_dpo.yaml"}
    base = bases.get(name.partition("_")[0], "quickstart.yaml")
    assert [path.resolve() for path in study.configs] == [CONFIGS / base]
    for cell in of_one_seed(study):
        whole = printed(capsys, *arguments(study, cell))
        asked = settings(study, cell)
        assert [key for key in asked if not holds(found_at(whole, key), asked[key])] == []
        seen.append({part: whole[part] for part in ("trainer", "model", "data")})
    assert all(one != other for one, other in itertools.combinations(seen, 2))
