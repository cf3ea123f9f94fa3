"""Tests of a user's own metric: it works wherever a metric is named, a wrong one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.runs import predictions, run_dir, scalars, verb
from vlm_lit.cli import main
from vlm_lit.errors import ConfigError
from vlm_lit.metrics import own_rules
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.catalogue import rule
from vlm_lit.metrics.rules import Answer

Config = Callable[..., Path]

EXAMPLE = dedent(str(own_rules.__doc__).partition("any code of one's own.\n")[2])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Writes code of the user's own, which a config may name; returns the module's name, another for each test."""
    name = f"own_{abs(hash(request.node.nodeid))}"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("VLM_LIT_ALLOW_IMPORTS", f"another,{name}")

    def write(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def test_the_example_of_the_docstring_is_a_metric(package: Callable[[str], str]) -> None:
    name = package(EXAMPLE)
    found = rule(f"{name}.WithinOne", {"distance": 2})
    assert found.name == "within_one[distance=2]"
    assert [found.score(Answer(p, ["5"])) for p in ("7", "8", "five")] == [1.0, 0.0, 0.0]
    assert rule(f"{name}.WithinOne").score(Answer("7", ["5"])) == 0.0
    with pytest.raises(ConfigError, match=r"has no option 'distanse'\. Did you mean 'distance'"):
        rule(f"{name}.WithinOne", {"distanse": 2})
    with pytest.raises(ConfigError, match="distance is 'far'; it must be a whole number"):
        rule(f"{name}.WithinOne", {"distance": "far"})


LETTERS = """
from dataclasses import dataclass
from typing import ClassVar
from vlm_lit.metrics.rules import Rule

@dataclass(frozen=True)
class Letters(Rule):
    title: ClassVar[str] = "letters"
    weight: float = 1.0

    def counts(self, answer):
        return (self.weight * (len(answer.prediction) % 2),)
"""


@pytest.mark.slow
def test_it_leads_a_test_and_is_logged_in_a_fit(config: Config, package: Callable[[str], str]) -> None:
    name = package(LETTERS)
    path = config(model={"metrics": [{"name": f"{name}.Letters", "options": {"weight": 0.5}}, {"name": "exact_match"}]})
    assert verb("fit", path, "--keep_best", "val/letters[weight=0.5]") == 0
    assert "val/letters[weight=0.5]/other" in scalars(run_dir(path))
    assert json.loads((run_dir(path) / "checkpoints" / "best.json").read_text())["mode"] == "max"
    assert verb("test", path) == 0
    rows = predictions(run_dir(path))
    assert [row["score"] for row in rows] == [0.5 * (len(row["prediction"]) % 2) for row in rows]
    values = json.loads((run_dir(path) / "results.json").read_text())["metrics"]
    assert values["letters[weight=0.5]"] == pytest.approx(sum(row["score"] for row in rows) / 6)


def test_it_judges_a_file(package: Callable[[str], str], tmp_path: Path) -> None:
    name, records, report = package(LETTERS), tmp_path / "answers.jsonl", tmp_path / "report.json"
    records.write_text("".join(json.dumps({"id": w, "prediction": w, "references": ["x"]}) + "\n" for w in ("a", "bb")))
    words = ["score", "--metric", f"{name}.Letters", "--records", str(records), "--output", str(report)]
    assert main(words) == 0
    assert json.loads(report.read_text())["overall"] == 50.0
    assert json.loads(report.read_text())["metric"] == "letters"


CODE = """
from dataclasses import dataclass
from typing import ClassVar, List
from vlm_lit.metrics.rules import Rule

def function(prediction, references):
    return 1.0

class Stranger:
    title = "stranger"

@dataclass(frozen=True)
class NoCounts(Rule):
    title: ClassVar[str] = "no_counts"

@dataclass(frozen=True)
class NoTitle(Rule):
    def counts(self, answer):
        return (1.0,)

class NotDecorated(NoTitle):
    title: ClassVar[str] = "not_decorated"
    option: int = 1

@dataclass(frozen=True)
class NoDefault(NoTitle):
    title: ClassVar[str] = "no_default"
    option: int

@dataclass(frozen=True)
class OddOption(NoTitle):
    title: ClassVar[str] = "odd_option"
    option: List[int] = ()

@dataclass(frozen=True)
class TwoNumbers(Rule):
    title: ClassVar[str] = "two_numbers"

    def counts(self, answer):
        return 1.0, 2.0

@dataclass(frozen=True)
class NoOverall(NoTitle):
    title: ClassVar[str] = "no_overall"

    def values(self, sums, n):
        return {"mean": sums[0] / n}
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("function", "is no class"),
        ("Stranger", "is no subclass of vlm_lit.metrics.rules.Rule"),
        ("NoCounts", "has no method counts"),
        ("NoTitle", "has no `title: ClassVar[str]`"),
        ("NotDecorated", "has the option option but no @dataclass(frozen=True) above it"),
        ("NoDefault", "gives its option option no default"),
        ("OddOption", "none of bool, int, float, str or a Literal"),
        ("NoCount", "Did you mean"),
    ],
)
def test_a_wrong_one_is_refused_with_what_it_lacks(name: str, says: str, package: Callable[[str], str]) -> None:
    module = package(CODE)
    with pytest.raises(ConfigError) as refused:
        rule(f"{module}.{name}")
    assert says in str(refused.value)


def test_counts_and_values_are_held_to_what_the_class_says(package: Callable[[str], str]) -> None:
    module = package(CODE)
    with pytest.raises(ConfigError, match=r"counts returned \(1.0, 2.0\); it must be None or a tuple of 1 number"):
        ItemMetric(rule(f"{module}.TwoNumbers")).update(["a"], [["a"]], ["1"])
    metric = ItemMetric(rule(f"{module}.NoOverall"))
    metric.update(["a"], [["a"]], ["1"])
    with pytest.raises(ConfigError, match="a score has an `overall`"):
        metric.compute()


def test_a_strangers_code_is_not_imported(
    package: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name = package(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + LETTERS)
    monkeypatch.setenv("VLM_LIT_ALLOW_IMPORTS", "another")
    assert verb("test", config(model={"metrics": [{"name": f"{name}.Letters"}]})) == 2
    assert f"VLM_LIT_ALLOW_IMPORTS={name}." in capsys.readouterr().err
    with pytest.raises(ConfigError, match="name one of ours by its name alone"):
        rule("os.system")
    assert not (tmp_path / "ran").exists()


def test_one_that_is_not_there_says_so(package: Callable[[str], str]) -> None:
    package("")
    with pytest.raises(ConfigError, match="cannot be imported: No module named 'another'"):
        rule("another.Metric")
