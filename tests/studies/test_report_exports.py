"""Tests of a study report's files, parsed back, with names that look like code."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.html_page import Page
from tests.support.study_runs import METRIC, falling, open_study, write_cell
from vlm_lit.studies.reporting.report import StudyReport, study_report
from vlm_lit.studies.reporting.report_exports import as_csv, as_json, as_latex, as_markdown
from vlm_lit.studies.reporting.report_page import as_page
from vlm_lit.studies.reporting.report_plots import report_plots
from vlm_lit.studies.reporting.report_text import as_text
from vlm_lit.studies.running.study_file import Factor, Level

EVIL = r"</script><img src=x onerror=alert(1)>&\_{x}%$#^~|"
CLAIM = {
    "says": "b is better",
    "source": "Paper, Table 3",
    "better": {"way": "b"},
    "than": {"way": "a"},
    "kind": "greater",
}
PUBLISHED = {"cell": {"way": "b"}, "value": 0.737, "what": "WikiSQL", "source": "LoRA, Table 6"}


@pytest.fixture
def report(tmp_path: Path) -> StudyReport:
    study = open_study(tmp_path, {"way": ["a", "b", "c"]}, seeds=[0, 1, 2, 3], claims=[CLAIM], published=[PUBLISHED])
    for level, right in (("a", (10, 11, 12, 11)), ("b", (34, 35, 36, 35)), ("c", (11, 10, 10))):
        for seed, n in enumerate(right):
            loss = {"train/loss": falling(11, to=1.0 if level == "b" else 1.5, seconds=3.0)}
            write_cell(study, {"way": level}, seed, [1.0] * n + [0.0] * (40 - n), events=loss, per_image=1)
    write_cell(study, {"way": "c"}, 3, status="failed", error="Step 7 has loss nan")
    return study_report(study)


@pytest.fixture
def evil(tmp_path: Path) -> StudyReport:
    study = open_study(tmp_path, {"way": ["a", "b"]}, seeds=[0, 1, 2, 3], claims=[CLAIM], published=[PUBLISHED])
    factor = Factor(name=f"f{EVIL}", levels=tuple(Level(name=f"{name}{EVIL}") for name in "ab"))
    first, second = ({factor.name: level.name} for level in factor.levels)
    (claim,), (figure,) = study.claims, study.published
    study = replace(
        study,
        name=f"n{EVIL}",
        factors=(factor,),
        baseline=first,
        claims=(replace(claim, says=f"s{EVIL}", source=f"o{EVIL}\nnext", better=second, than=first),),
        published=(replace(figure, cell=second, what=f"w{EVIL}", source=EVIL),),
    )
    for levels, n in ((first, 8), (second, 30)):
        for seed in (0, 1, 2):
            write_cell(study, levels, seed, [1.0] * (n + seed) + [0.0] * (40 - n - seed), per_image=1)
    write_cell(study, first, 3, status="failed", error=f"e{EVIL}")
    return study_report(study)


def test_the_json_has_every_figure(report: StudyReport) -> None:
    found = json.loads(as_json(report))
    assert (found["metric"], found["questions"], found["images"], found["finished"]) == (METRIC, 40, 40, False)
    assert found["best"]["setting"] == "way=b"
    assert found["best"]["beyond_doubt"] is True
    settings = {setting["name"]: setting for setting in found["settings"]}
    assert settings["way=b"]["score"]["by_seed"] == pytest.approx([0.85, 0.875, 0.9, 0.875])
    assert settings["way=b"]["against_baseline"]["difference"]["mean"] == pytest.approx(0.6)
    assert settings["way=b"]["convergence"] == {
        "final_loss": 1.0,
        "steps": 6.0,  # from 2 by 0.1 a step to 1.5
        "seconds": 15.0,
        "reached": 4,
        "seeds": 4,
    }
    assert settings["way=a"]["against_baseline"] is None
    assert settings["way=c"]["seeds"] == [0, 1, 2]
    assert found["claims"][0]["verdict"] == "supported"
    assert found["published"] == [PUBLISHED]
    assert found["unfinished"] == [{"setting": "way=c", "seed": 3, "state": "failed", "error": "Step 7 has loss nan"}]


def test_the_csv_has_a_line_for_each_setting(report: StudyReport) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    assert [row["setting"] for row in rows] == ["way=a", "way=b", "way=c"]
    assert [row["best_beyond_doubt"] for row in rows] == ["False", "True", "False"]
    assert float(rows[1]["mean"]) == pytest.approx(0.875)
    assert float(rows[1]["difference_mean"]) == pytest.approx(0.6)
    assert (rows[0]["difference_mean"], rows[2]["seeds_finished"], rows[1]["factor way"]) == ("", "3", "b")
    assert (rows[1]["trained_parameters"], rows[1]["fit_seconds"]) == ("1000", "60.0")


def test_a_name_is_no_formula_to_a_spreadsheet(report: StudyReport) -> None:
    named = replace(report, settings=tuple(replace(s, name=f"={s.name}") for s in report.settings))
    assert all(row["setting"].startswith("'=") for row in csv.DictReader(io.StringIO(as_csv(named))))


def test_markdown_has_the_tables_the_bold_and_the_pictures(report: StudyReport) -> None:
    text = as_markdown(report, ["cost.svg", "cost.png"])
    assert "| **way=b** | 4 of 4 | 87.5 | 2.0 |" in text
    assert text.count("**") == 2
    assert "![cost](cost.png)" in text
    assert "cost.svg" not in text
    assert "The study is unfinished: 1 of 12 runs have no score (1 failed)" in text
    assert "| b is better | Paper, Table 3 | Supported: way=b minus way=a is +60.0 points" in text
    assert "| way=b | WikiSQL | LoRA, Table 6 | 73.7 % | way=b | 87.5 |" in text
    assert "| way=c | 3 | failed | Step 7 has loss nan |" in text


def test_nothing_is_bold_where_none_is_better_than_all(tmp_path: Path) -> None:
    study = open_study(tmp_path, {"way": ["a", "b"]})
    for level, right in (("a", (20, 21, 22)), ("b", (22, 20, 22))):
        for seed, n in enumerate(right):
            write_cell(study, {"way": level}, seed, [1.0] * n + [0.0] * (40 - n))
    found = study_report(study)
    page = Page(as_page(found, {}))
    assert "**" not in as_markdown(found, [])
    assert r"\textbf" not in as_latex(found)
    assert not page.bold
    assert "Nothing is in bold" in page.text
    assert "No setting is best beyond doubt, so none is in bold: way=b has the highest mean" in page.text


def test_latex_is_booktabs_with_as_many_cells_as_columns(evil: StudyReport) -> None:
    text = as_latex(evil)
    assert r"\textbf{f" in text
    bodies = re.findall(
        r"\\begin\{tabular\}\{((?:[lr]|p\{[\d.]+\\linewidth\})+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL
    )
    assert len(bodies) == text.count(r"\begin{tabular}") == 5
    for columns, body in bodies:
        n = len(re.sub(r"p\{[^}]*\}", "l", columns))
        for line in body.splitlines():
            if not line.startswith(("\\toprule", "\\midrule", "\\bottomrule")):
                assert len(re.findall(r"(?<!\\)&", line)) == n - 1, line
                assert line.endswith(r" \\")


def test_latex_has_nothing_left_that_tex_would_obey(evil: StudyReport) -> None:
    text = as_latex(evil)
    written = r"$<$/script$>$$<$img src=x onerror=alert(1)$>$\&"
    written += r"\textbackslash{}\_\{x\}\%\$\#\textasciicircum{}\textasciitilde{}|"
    assert text.count(written) > 10
    assert EVIL not in text
    assert " next" in text
    assert not any(line.startswith("next") for line in text.splitlines())


def test_the_page_shows_names_as_text(evil: StudyReport) -> None:
    html = as_page(evil, report_plots(evil))
    page = Page(html)
    assert "<script" not in html
    assert "</script>" not in html
    assert not page.handlers
    assert page.tags.count("img") == len(page.addresses) == 1  # the cost plot; nothing of EVIL's
    for name in (f"n{EVIL}", f"f{EVIL}=b{EVIL}", f"s{EVIL}", f"w{EVIL}", f"e{EVIL}"):
        assert name in page.text


def test_the_page_needs_no_other_file(report: StudyReport) -> None:
    html = as_page(report, report_plots(report))
    page = Page(html)
    assert len(page.addresses) == 2
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert not re.findall(r"url\(|@import", html)
    assert page.bold == ["tr"]
    for tag in ("table", "tr", "td", "th", "p", "ul", "li", "h2", "div"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>"), tag


def test_the_page_says_what_is_missing_and_what_is_claimed(report: StudyReport) -> None:
    text = " ".join(Page(as_page(report, {})).text.split())
    for words in (
        "3 settings, 11 of 12 runs finished",
        "The study is unfinished: 1 of 12 runs have no score (1 failed)",
        "way=b is best with 87.5 %: better than every other setting",
        "First at a training loss of 1.50: way=b in the fewest steps, 6, and in the least time, 15 s; it also",
        "Lacking: way=c 3.",
        "Supported: way=b minus way=a is +60.0 points",
        "Step 7 has loss nan",
        "Published figures stand as they were published",
        "Satterthwaite",
    ):
        assert words in text, words


def test_the_terminal_shows_the_main_table_and_no_control_codes(evil: StudyReport, report: StudyReport) -> None:
    text = as_text(report)
    assert re.search(r"^\* way=b +4 of 4 +87\.5 +2\.0 +\[", text, re.MULTILINE)
    assert re.search(r"^way=c +3 +failed +Step 7", text, re.MULTILINE)
    assert text.isascii()
    steered = replace(evil, study=replace(evil.study, name="\x1b[2Jgone"))
    assert "\x1b" not in as_text(steered)


def test_the_same_runs_make_the_same_files(report: StudyReport) -> None:
    one, other = (report_plots(report) for _ in range(2))
    assert {name for name in one if one[name] != other[name]} == set()
    assert as_page(report, one) == as_page(report, other)
