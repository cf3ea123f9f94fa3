"""Tests of the comparison's page: one file, nothing from outside, everything escaped, every picture or its name."""

import re
from pathlib import Path

from tests.support.html_page import Page
from tests.support.run_files import row, rows, write_image, write_run, write_scores
from vlm_lit.studies.comparing.alignment import align
from vlm_lit.studies.comparing.comparison import Method, compare
from vlm_lit.studies.comparing.page import as_page
from vlm_lit.studies.run_files.systems import open_systems

EVIL = "<script>alert(1)</script>"


def page(paths: list[Path], names: list[str] | None = None, examples: int = 4) -> str:
    systems = open_systems(paths, names)
    return as_page(compare(systems, align(systems), Method()), examples=examples)


def evil_rows(score: float) -> list[dict[str, object]]:
    fields = {
        key: f'{key} {EVIL} "><img src=x onerror=alert(2)>' for key in ("question", "prediction", "image", "image_id")
    }
    groups = [{f"g {EVIL}": f"{EVIL} {i % 2}"} for i in range(4)]
    return [row(f"q{i} {EVIL}", score, **fields, references=[EVIL], groups=groups[i]) for i in range(4)]


def test_what_records_say_stays_text(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", evil_rows(1)), write_run(tmp_path / "b", evil_rows(0), max_new_tokens=EVIL)
    for name in (f"x{EVIL}", "x'\"&amp;"):
        html = page([a, b], [name, "b"])
        assert EVIL not in html
        assert html.count("<script") == 0
        found = Page(html)
        assert not found.handlers
        assert name in found.text
    assert EVIL in found.text


def test_nothing_comes_from_outside(tmp_path: Path) -> None:
    picture = str(write_image(tmp_path / "cat.png"))
    lines = [row(f"q{i}", i % 2, image=picture, question="see http://example.org/x") for i in range(4)]
    html = page([write_run(tmp_path / "a", lines), write_run(tmp_path / "b", lines[:])])
    found = Page(html)
    assert found.addresses
    assert all(address.startswith("data:image/") for address in found.addresses)
    assert not {"script", "link", "iframe", "object", "base"} & set(found.tags)
    assert not re.findall(r"url\(|@import", html)
    assert "default-src 'none'" in html


def test_tags_are_closed(tmp_path: Path) -> None:
    html = page([write_run(tmp_path / n, rows([1, 0, 0.5, 1, 0, 0])) for n in ("a", "b", "c")])
    for tag in ("table", "tr", "td", "th", "article", "section", "p", "ul", "li", "figure", "h2", "h3", "h4", "div"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>"), tag


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    lines = [row(f"q{i}", 1, image="/gone/cat 7.png") for i in range(2)]
    run = write_run(tmp_path / "a", lines)
    text = Page(page([run, run])).text
    assert "no picture" in text
    assert "cat 7.png" in text


def test_three_answers_stand_side_by_side(tmp_path: Path) -> None:
    description = "A red mug of stoneware that holds a quarter of a litre and goes into the dishwasher."
    answers = ("It is a mug.", description, description.replace("stoneware", "porcelain"), description)
    runs = [
        write_run(tmp_path / f"s{i}", [row("q0", 0.5, prediction=text), row("q1", 0.5, prediction=text)])
        for i, text in enumerate(answers)
    ]
    html = page(runs, examples=1)
    shown = Page(html).text
    assert "<mark>porcelain" in html
    assert html.count("<mark>") == html.count("<mark>porcelain")
    assert "marked: not in s1" in shown
    assert "same as s1" in shown
    assert all(text in shown for text in answers)


def test_the_head_says_what_is_compared(tmp_path: Path) -> None:
    a, b = (
        write_run(tmp_path / "a", rows([1, 0, 1, 1]), adapter="runs/a/adapter"),
        write_run(tmp_path / "b", rows([0] * 4)),
    )
    text = " ".join(Page(page([a, b])).text.split())
    for words in ("a · b", "vqa_accuracy · 4 items about 2 images", "llava (all)", "runs/a/adapter", "torch 2.13"):
        assert words in text


def test_runs_without_scores_have_their_answers_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", [row("q0", prediction="a red mug"), row("q1", prediction="a blue mug")])
    found = Page(page([run, run]))
    assert "answers without scores" in found.text
    assert "a blue mug" in found.text
    assert "Differences" not in found.text


def test_score_files_alone_have_no_side_by_side(tmp_path: Path) -> None:
    a = write_scores(tmp_path / "a.json", {"q0": 1.0, "q1": 0.0, "q2": 1.0})
    b = write_scores(tmp_path / "b.json", {"q0": 0.0, "q1": 0.0, "q2": 1.0})
    text = Page(page([a, b])).text
    assert "a ahead of b" in text
    assert "the answer is not in the file" in text
    assert "Side by side" not in text


def test_one_image_has_a_page_too(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", rows([1, 0])), write_run(tmp_path / "b", rows([0, 0]))
    assert "not judged (one image only)" in Page(page([a, b])).text


def test_the_same_runs_make_the_same_page(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / n, rows([1, 0, 0.5, 1])) for n in ("a", "b")]
    assert page(runs) == page(runs)


def test_every_table_scrolls_and_shows_that_it_does(tmp_path: Path) -> None:
    html = page([write_run(tmp_path / n, rows([1, 0, 0.5, 1, 0, 0])) for n in ("a", "b", "c")])
    assert len(re.findall(r'<div class="wide">\s*<table', html)) == html.count("<table") > 4
    style = html[html.index("<style>") : html.index("</style>")]
    assert re.search(r"\.wide \{ overflow-x: auto", style)
    (background,) = re.findall(r"\.wide \{ background:\n(.*?)\}", style, re.DOTALL)
    shadows = re.findall(r"(local|scroll)[,;]", background)
    assert shadows == ["local", "local", "scroll", "scroll"]  # covers that move with the table, shadows that stay
    assert "::-webkit-scrollbar" in style
