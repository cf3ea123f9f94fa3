"""Tests of a comparison's exports: the files for other programs, parsed back."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.run_files import row, rows, write_run
from vlm_lit.studies.comparing.alignment import align
from vlm_lit.studies.comparing.comparison import Comparison, Method, compare
from vlm_lit.studies.comparing.comparison_text import as_text
from vlm_lit.studies.comparing.exports import as_csv, as_json, as_latex, as_markdown
from vlm_lit.studies.run_files.systems import open_systems

A, B = [1, 0, 0.3, 1, 0, 1, 1, 0], [0, 0, 1, 1, 1, 1, 1, 1]


def compared(
    folder: Path, a: Sequence[float | None], b: Sequence[float | None], names: tuple[str, str] = ("a", "b")
) -> Comparison:
    systems = open_systems([write_run(folder / "1", rows(a)), write_run(folder / "2", rows(b))], names)
    return compare(systems, align(systems), Method(seed=5))


def test_the_json_has_every_figure_as_a_fraction(tmp_path: Path) -> None:
    comparison = compared(tmp_path, A, B)
    content = json.loads(as_json(comparison))
    (found,), (pair,) = content["pairs"], comparison.pairs
    difference, bootstrap = pair.difference, pair.bootstrap
    assert difference is not None
    assert bootstrap is not None
    assert {key: found[key] for key in ("a", "b", "n", "clusters", "mcnemar", "mde", "verdict")} == {
        "a": "a",
        "b": "b",
        "n": 8,
        "clusters": 4,
        "mcnemar": None,
        "mde": pair.mde,
        "verdict": pair.verdict,
    }
    assert (found["mean_a"], found["mean_b"]) == pytest.approx((4.3 / 8, 6 / 8))
    assert found["correlation"] == pair.correlation
    assert found["difference"] == {
        "mean": pytest.approx(-1.7 / 8),
        "se": difference.plain_se,
        "se_clustered": difference.se,
        "ci95": [difference.low, difference.high],
        "level": 0.95,
        "p": difference.p,
    }
    assert found["bootstrap"] == {"ci95": [bootstrap.low, bootstrap.high], "resamples": 10_000, "seed": 5}
    assert (found["wins"], found["ties"], found["losses"], found["p_holm"]) == (1, 4, 3, difference.p)
    assert [group["value"] for group in content["groups"]] == ["number", "other"]
    assert [system["name"] for system in content["systems"]] == ["a", "b"]


def test_the_json_has_mcnemar_for_right_and_wrong(tmp_path: Path) -> None:
    (found,) = json.loads(as_json(compared(tmp_path, [1, 0, 0, 1], [0, 0, 0, 1])))["pairs"]
    assert found["mcnemar"] == {"only_a": 1, "only_b": 0, "exact_p": 1.0, "mid_p": pytest.approx(0.5)}


def test_the_json_of_one_image_and_of_no_scores(tmp_path: Path) -> None:
    (found,) = json.loads(as_json(compared(tmp_path, [1, 0], [1, 1])))["pairs"]
    assert (found["bootstrap"], found["mde"], found["difference"]["ci95"]) == (None, None, None)
    assert json.loads(as_json(compared(tmp_path, [None] * 2, [None] * 2)))["pairs"] == []


def test_the_csv_has_a_line_for_each_pair_and_group(tmp_path: Path) -> None:
    comparison = compared(tmp_path, A, B, ("=cmd()", "b,b"))
    lines = list(csv.DictReader(io.StringIO(as_csv(comparison))))
    assert [(line["group"], line["value"], line["n"]) for line in lines] == [
        ("overall", "", "8"),
        ("answer_type", "number", "4"),
        ("answer_type", "other", "4"),
    ]
    assert (lines[0]["a"], lines[0]["b"]) == ("'=cmd()", "b,b")
    assert comparison.pairs[0].difference is not None
    assert float(lines[0]["low"]) == comparison.pairs[0].difference.low


def test_the_markdown_holds_whatever_a_name_is_made_of(tmp_path: Path) -> None:
    text = as_markdown(compared(tmp_path, A, B, ("a|b", "<b>_*")))
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in tables} == {5, 8, 9}
    assert r"a\|b" in text
    assert "<b>" not in text


def test_the_latex_holds_whatever_a_name_is_made_of(tmp_path: Path) -> None:
    text = as_latex(compared(tmp_path, A, B, (r"a_b&c%\{", "$#~^")))
    assert r"a\_b\&c\%\textbackslash{}\{" in text
    assert r"\$\#\textasciitilde{}\textasciicircum{}" in text
    for table in text.split(r"\begin{tabular}")[1:]:
        columns = len(table[1 : table.index("}")])
        lines = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert len(lines) >= 2
        assert {line.replace(r"\&", "").count("&") for line in lines} == {columns - 1}


def test_the_text_is_aligned_and_steers_no_terminal(tmp_path: Path) -> None:
    text = as_text(compared(tmp_path, A, B, ("a\x1b[2J", "b")))
    assert "\x1b" not in text
    assert text.isascii()
    assert "vqa_accuracy, 8 items, 4 images" in text
    assert re.search(r"a\\x1b\[2J - b +-21\.2 +\[", text)


def test_the_text_without_scores(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [row("q0"), row("q1")])
    systems = open_systems([run, run])
    assert as_text(compare(systems, align(systems), Method())).startswith("2 items, 2 images, no scores\n")
