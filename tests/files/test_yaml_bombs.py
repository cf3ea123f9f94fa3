"""Tests of YAML that stands for more than a computer holds: refused at once, wherever it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.refusals import refusal
from vlm_lit.files.strict_yaml import StrictLoader, loading_problem


def repeated(times: int, each: int = 9) -> str:
    """300 bytes that stand for `each ** times` values."""
    first = "a0: &a0 [x, x]\n"
    return first + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * each)}]\n" for i in range(1, times))


BOMBS = {
    "names of names": (repeated(8), "it stands for more than 100,000 values"),
    "names of names in keys": (repeated(8).replace("[", "{? [").replace("]", "] : 1}"), "it stands for more than"),
    "a list in itself": ("a: &a [*a]", "the value a holds itself"),
    "a mapping in itself": ("a: &a {b: {c: *a}}", "the value a holds itself"),
    "many levels": ("[" * 90_000, "nested deeper than 64 levels"),
    "many levels of mappings": ("{a: " * 40_000, "nested deeper than 64 levels"),
    "much text": ("a: " + "x" * 200_000, "a text of 200,003 bytes, where at most 200,000 are read"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("text", "problem"), BOMBS.values(), ids=BOMBS)
def test_a_text_that_is_too_much(text: str, problem: str) -> None:
    with pytest.raises(yaml.YAMLError) as refused:
        yaml.load(text, Loader=StrictLoader)
    assert problem in loading_problem(refused.value)


def test_names_are_allowed_in_measure() -> None:
    assert yaml.load("a: &a {b: 1}\nc: *a\nd: [*a, *a]", Loader=StrictLoader)["d"] == [{"b": 1}, {"b": 1}]
    assert len(yaml.load(repeated(5), Loader=StrictLoader)["a4"]) == 9


@pytest.mark.timeout(60)
@pytest.mark.parametrize("verb", ["fit", "test", "inspect", "verify", "check", "budget", "cache"])
def test_every_verb_that_reads_a_config(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(repeated(8))
    error = refusal(capsys, verb, "--config", str(path))
    assert f"{path}, line 6: it stands for more than 100,000 values" in error


@pytest.mark.timeout(60)
def test_a_study_and_a_value_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(repeated(8))
    assert "it stands for more than 100,000 values" in refusal(capsys, "study", "run", str(path))
    assert "model: it stands for" in refusal(capsys, "fit", "--model", repeated(8)).replace(", line 6", "")
    assert "nested deeper than 64 levels" in refusal(capsys, "fit", "--model", "[" * 90_000)


@pytest.mark.timeout(60)
def test_configs_that_name_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("model: b.yaml\n")
    (tmp_path / "b.yaml").write_text("a: a.yaml\nb: a.yaml\n")
    assert "more than 100 files name one another" in refusal(capsys, "fit", "--config", str(tmp_path / "a.yaml"))
