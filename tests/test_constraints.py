"""Tests of the constraints: installed versions lie within the ranges that pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parent.parent
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
_DECLARED = [
    Requirement(line)
    for line in [
        *_PROJECT["dependencies"],
        *(line for lines in _PROJECT["optional-dependencies"].values() for line in lines),
    ]
]
_PINNED = dict(line.split("==") for line in (_ROOT / "constraints.txt").read_text().split())
_TESTED = [Requirement(line) for line in [*_PROJECT["dependencies"], *_PROJECT["optional-dependencies"]["dev"]]]


def test_constraints_are_names_and_versions_alone() -> None:
    lines = (_ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)


@pytest.mark.parametrize("requirement", _DECLARED, ids=lambda r: r.name)
def test_a_constraint_lies_within_its_range(requirement: Requirement) -> None:
    pinned = {canonicalize_name(name): version for name, version in _PINNED.items()}
    version = pinned.get(canonicalize_name(requirement.name))
    assert version is None or version in requirement.specifier


@pytest.mark.parametrize("requirement", _TESTED, ids=lambda r: r.name)
def test_what_is_needed_or_tested_with_has_a_constraint(requirement: Requirement) -> None:
    names = {canonicalize_name(name) for name in _PINNED} | {"vlm-lit"}
    assert canonicalize_name(requirement.name) in names


@pytest.mark.parametrize("name", ["lightning", "torch", "transformers", "peft", "jsonargparse"])
def test_what_changes_below_us_has_a_ceiling(name: str) -> None:
    specifier = next(r.specifier for r in _DECLARED if r.name == name)
    assert any(clause.operator in ("<", "<=") for clause in specifier)
