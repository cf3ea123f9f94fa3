"""Tests of every family against every check, and the table of both that the test run prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.family_checks.checks import CHECKS
from tests.support.family_table import Note
from tests.support.tiny_families.catalogue import CLASSIFIERS, TINY
from vlm_lit.models.families import FAMILIES


def test_every_family_has_a_tiny_model() -> None:
    of_task = {task: {name for name, f in FAMILIES.items() if f.task == task} for task in ("generate", "classify")}
    assert {tiny.model_type for tiny in TINY.values()} == of_task["generate"]
    assert {tiny.model_type for tiny in CLASSIFIERS.values()} == of_task["classify"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", TINY)
def test_family(name: str, check: str, folders: dict[str, Path], note: Note) -> None:
    place = list(CHECKS).index(check)
    note(name, place, check, "FAILED")
    refused = CHECKS[check](TINY[name], folders[name])
    note(name, place, check, "ok" if refused is None else refused)
