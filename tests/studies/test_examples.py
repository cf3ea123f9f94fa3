"""Tests of the examples on a page: their choice, the marks in their answers, and their pictures."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from tests.support.run_files import row, write_image, write_run
from vlm_lit.studies.comparing.alignment import align
from vlm_lit.studies.comparing.comparison import Method, compare
from vlm_lit.studies.comparing.examples import Selection, selections
from vlm_lit.studies.page_parts.marked_text import marked
from vlm_lit.studies.page_parts.pictures import LONG_SIDE, picture
from vlm_lit.studies.run_files.facts import read_facts
from vlm_lit.studies.run_files.systems import open_systems


def chosen(folder: Path, n: int, *runs: list[dict[str, object]]) -> dict[str, Selection]:
    systems = open_systems([write_run(folder / name, lines) for name, lines in zip("abc", runs, strict=False)])
    return {s.title: s for s in selections(compare(systems, align(systems), Method()), n)}


def ids(selection: Selection) -> list[str]:
    return [item.id for item in selection.items]


def test_wins_are_the_largest_gains_of_different_images_first(tmp_path: Path) -> None:
    scores = {"q0": (0, 0.6), "q1": (0, 1), "q2": (0, 1), "q3": (0, 0.9), "q4": (1, 0), "q5": (1, 1)}
    images = {"q0": "x", "q1": "y", "q2": "y", "q3": "z", "q4": "x", "q5": "x"}
    a, b = ([row(key, s[i], image_id=images[key]) for key, s in scores.items()] for i in (0, 1))
    found = chosen(tmp_path, 8, a, b)
    assert ids(found["b ahead of a"]) == ["q1", "q3", "q0", "q2"]
    assert found["b ahead of a"].rule.startswith("Of 4 such items")
    assert ids(found["a ahead of b"]) == ["q4"]
    assert ids(chosen(tmp_path, 3, a, b)["b ahead of a"]) == ["q1", "q3"]


def test_the_most_different_answers_share_the_fewest_words(tmp_path: Path) -> None:
    answers = {
        "q0": ("a red car", "a red car"),
        "q1": ("a red car", "a blue car"),
        "q2": ("red", "blue"),
        "q3": ("many words here", "nothing alike whatsoever"),
    }
    a, b = ([row(key, prediction=pair[i]) for key, pair in answers.items()] for i in (0, 1))
    assert ids(chosen(tmp_path, 12, a, b)["Most different answers"]) == ["q3", "q2", "q1"]


def test_the_sample_is_spread_over_the_file(tmp_path: Path) -> None:
    lines = [row(f"q{i}") for i in range(10)]
    found = chosen(tmp_path, 5, lines, lines)
    assert list(found) == ["Side by side"]  # alike and unscored: nothing else to show
    assert ids(found["Side by side"]) == ["q0", "q2", "q4", "q6", "q8"]
    assert found["Side by side"].rule == "5 of 10 items, evenly spaced through the file"
    assert len(ids(chosen(tmp_path, 50, lines, lines)["Side by side"])) == 10


def test_what_is_new_in_an_answer_is_marked() -> None:
    earlier = "The mug is red and holds a quarter of a litre."
    segments, nearest = marked("The mug is blue and holds half a litre.", ["something else altogether", earlier])
    assert nearest == 1
    assert [text.strip() for text, is_new in segments if is_new] == ["blue", "half"]
    assert "".join(text for text, _ in segments) == "The mug is blue and holds half a litre."


@pytest.mark.parametrize("text", ["", "two words", "nothing that the other answer says is said in this one at all"])
def test_short_and_unlike_answers_are_not_marked(text: str) -> None:
    assert marked(text, ["The mug is red, and holds a litre!"]) == ([(text, False)], None)


def decoded(uri: str) -> Image.Image:
    head, data = uri.split(",", 1)
    assert head.startswith("data:image/")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_picture_is_made_small_and_put_inside(tmp_path: Path) -> None:
    found = picture([str(write_image(tmp_path / "large.png", (1600, 800)))], [tmp_path])
    assert found.uri is not None
    assert decoded(found.uri).size == (LONG_SIDE, LONG_SIDE // 2)
    assert not found.is_tiny


def test_a_tiny_picture_keeps_its_size(tmp_path: Path) -> None:
    found = picture([str(write_image(tmp_path / "tiny.png", (64, 48)))], [tmp_path])
    assert found.uri is not None
    assert decoded(found.uri).size == (64, 48)
    assert found.is_tiny


def test_the_first_file_that_can_be_read_is_taken(tmp_path: Path) -> None:
    write_image(tmp_path / "run" / "cat.png")
    (tmp_path / "text.png").write_text("no image")
    found = picture(["/nowhere/cat.png", str(tmp_path / "text.png"), "cat.png"], [tmp_path, tmp_path / "run"])
    assert (found.name, found.uri is not None) == ("cat.png", True)


@pytest.mark.parametrize("path", ["/nowhere/cat.png", "", "a\0b.png", "x" * 5000, "http://example.org/cat.png"])
def test_a_picture_that_is_not_there_says_why(path: str, tmp_path: Path) -> None:
    found = picture([path], [tmp_path])
    assert found.uri is None
    assert found.problem


def test_a_picture_is_shown_only_from_the_run_and_where_its_data_lie(tmp_path: Path) -> None:
    run, data, private = (tmp_path / name for name in ("run", "data", "private"))
    run.mkdir()
    shown, hidden = write_image(data / "cat.png"), write_image(private / "cat.png")
    assert picture([str(shown)], [run], [data]).uri is not None
    assert picture([str(shown)], [run], []).uri is None
    for path in (str(hidden), f"{data}/../private/cat.png", "../private/cat.png"):
        found = picture([path], [run], [data])
        assert (found.uri, "lies outside" in found.problem) == (None, True), path
    assert picture([str(hidden)], [run], [Path("/")]).uri is None  # no data set is the whole machine


def test_a_link_that_a_run_brings_leads_nowhere_and_one_to_a_data_folder_is_followed(tmp_path: Path) -> None:
    run, private = tmp_path / "run", tmp_path / "private"
    run.mkdir()
    write_image(private / "cat.png")
    (run / "cat.png").symlink_to(private / "cat.png")
    assert picture([str(run / "cat.png")], [run]).uri is None
    (tmp_path / "data").symlink_to(private, target_is_directory=True)
    assert picture([str(tmp_path / "data" / "cat.png")], [run], [tmp_path / "data"]).uri is not None


def test_a_config_says_where_a_runs_data_lie(tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text("")
    (tmp_path / "config.yaml").write_text(
        "data: {init_args: {train: {path: [a/train.json, 'b/*.json']}, val: {path: hub/name, image_root: c},"
        " test: {path: d.json, images_from: {path: e/images.tsv}}}}"
    )
    found = read_facts(tmp_path / "predictions.jsonl").folders
    assert {str(folder) for folder in found} == {"a", "b", "hub", "c", ".", "e"}


def test_no_path_at_all() -> None:
    assert picture([], []).problem == "no image file is named"
