"""Tests of strict YAML: nothing in a file is silently changed."""

from __future__ import annotations

import pytest
import yaml

from vlm_lit.files.strict_yaml import StrictLoader, loading_problem


@pytest.mark.parametrize(("text", "value"), [
    ("1e-4", 1e-4), ("-2E+3", -2000.0), ("1_0e1", 100.0), ("e-4", "e-4"), ("2020-01-02", "2020-01-02"),
    ("true", True), ("FALSE", False), ("-12", -12), ("1_000", 1000), ("0x1F", 31), ("0b11", 3), ("0", 0), (".5", 0.5),
    ("1.", 1.0), ("-1.5e3", -1500.0), ("null", None), ("~", None),
    # Words of YAML 1.1 that are words.
    ("yes", "yes"), ("No", "No"), ("on", "on"), ("OFF", "OFF"), ("y", "y"), ("12:30", "12:30"), ("010", "010"),
    ("[yes, no]", ["yes", "no"]),
])  # fmt: skip
def test_values(text: str, value: object) -> None:
    assert yaml.load(text, Loader=StrictLoader) == value


@pytest.mark.parametrize(("text", "problem"), [
    ("a: 1\nb: {c: 1,\n  c: 2}", ", line 3: the key c stands there a second time"),
    ("a: .nan", ", line 1: .nan is not a finite number"),
    ("a: 1e400", ", line 1: 1e400 is not a finite number"),
    ("a: [1", ", line 1: expected ',' or ']'"),
])  # fmt: skip
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(yaml.YAMLError) as refused:
        yaml.load(text, Loader=StrictLoader)
    assert loading_problem(refused.value).startswith(problem)
