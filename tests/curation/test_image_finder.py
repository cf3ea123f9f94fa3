"""Tests of finding picture files: what several folders, prefixes and spellings come to, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlm_lit.curation.image_finder import ImageFinder
from vlm_lit.curation.path_words import plain_path
from vlm_lit.curation.row_pictures import with_pictures
from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.errors import ConfigError
from vlm_lit.schema import Record


def folder(where: Path, *names: str) -> Path:
    for name in names:
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(f"{where.name}/{name}")
    return where


def refused(finder: ImageFinder, text: str, own: Path) -> str:
    with pytest.raises(ImageProblem) as found:
        finder.find(text, own)
    return found.value.code


@pytest.mark.parametrize(
    ("written", "prefixes", "plain"),
    [
        ("a\\b.png", {}, "a/b.png"),
        ("./a/./b//c.png", {}, "a/b/c.png"),
        ("a/../../b.png", {}, "../b.png"),
        ("D:\\Data\\a.png", {"d:/data": ""}, "a.png"),
        ("D:\\Database\\a.png", {"d:/data": ""}, "D:/Database/a.png"),
        ("/mnt/a/b.png", {"/mnt": "x", "/mnt/a": "y/"}, "y/b.png"),
        ("http://host/files/a.png", {"http://host/files/": "in"}, "in/a.png"),
        ("file:///C:/a%20b.png", {}, "C:/a b.png"),
        ("http://localhost:8080/data/local-files/?d=a/b%20c.png", {}, "a/b c.png"),
        ("/a.png", {"/": ""}, "a.png"),
    ],
)
def test_plain_paths(written: str, prefixes: dict[str, str], plain: str) -> None:
    assert plain_path(written, prefixes)[0] == plain


def test_the_same_name_in_two_folders_is_one_file_only_where_they_are_equal(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", "a.png", "b.png"), folder(tmp_path / "two", "a.png", "b.png")
    (two / "b.png").write_bytes((one / "b.png").read_bytes())
    finder = ImageFinder([one, two], {})
    assert finder.find("b.png", tmp_path).path == one / "b.png"
    assert refused(finder, "a.png", tmp_path) == "path.ambiguous"
    assert finder.find("two/a.png", tmp_path).path == two / "a.png"


def test_an_exact_name_wins_over_one_in_other_letters(tmp_path: Path) -> None:
    there = folder(tmp_path / "one", "A.png", "a.PNG", "b.jpg", "b.png", "c.jpeg", "c.png")
    finder = ImageFinder([there], {})
    assert finder.find("A.png", tmp_path).name == "A.png"
    assert refused(finder, "a.png", tmp_path) == "path.ambiguous"
    assert finder.find("b.JPG", tmp_path).name == "b.jpg"
    assert refused(finder, "b.webp", tmp_path) == "path.ambiguous"
    assert finder.find("c.jpg", tmp_path).name == "c.jpeg"  # a JPEG rather than a PNG
    assert refused(finder, "d.jpg", tmp_path) == "image.missing"


def test_without_folders_pictures_are_beside_their_source(tmp_path: Path) -> None:
    there = folder(tmp_path / "set", "Images/A.png")
    finder = ImageFinder([], {})
    assert finder.find("images/a.png", there).path == there / "Images/A.png"
    assert refused(finder, "images/a.png", tmp_path / "other") == "image.missing"


def test_a_source_may_have_pictures_beside_it_that_no_folder_has(tmp_path: Path) -> None:
    given, own = folder(tmp_path / "given", "a.png"), folder(tmp_path / "own", "a.png", "b.png")
    finder = ImageFinder([given], {})
    assert finder.find("a.png", own).path == given / "a.png"
    assert finder.find("b.png", own).path == own / "b.png"
    assert refused(finder, "../own/b.png", given) == "path.outside_root"


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    there = folder(tmp_path / "one", "a.png")
    (there / "loop").symlink_to(there, target_is_directory=True)
    assert ImageFinder([there], {}).given[0].names == {"a.png"}


def test_what_is_written_is_not_looked_in(tmp_path: Path) -> None:
    there = folder(tmp_path / "one", "a.png", "curated/images/b.png")
    assert ImageFinder([there], {}, (there / "curated").resolve()).given[0].names == {"a.png"}


def test_a_path_of_another_machine_is_refused_with_the_prefix_to_map(tmp_path: Path) -> None:
    finder = ImageFinder([folder(tmp_path / "one", "x/a.png")], {})
    with pytest.raises(ImageProblem, match=r"--prefix /srv/data=") as found:
        finder.find("/srv/data/x/a.png", tmp_path)
    assert found.value.code == "path.other_machine"
    assert refused(finder, "/srv/data/x/nothing.png", tmp_path) == "path.outside_root"


@pytest.mark.skipif(os.name == "nt", reason="names of bytes")
def test_a_name_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    there = folder(tmp_path / "one", "a.png")
    Path(os.fsdecode(os.fsencode(there) + b"/caf\xe9.png")).write_text("x")
    assert ImageFinder([there], {}).find("A.png", tmp_path).name == "a.png"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        ImageFinder([tmp_path / "gone"], {})


@pytest.mark.parametrize(
    ("fields", "placed"),
    [
        ({"image": {"<image_1>": "b", "<image_0>": "a"}}, {"images": ["put a", "put b"]}),
        ({"image_0": "a", "image_10": "b"}, {"image_0": "put a", "image_10": "put b"}),
        ({"image_name": "a"}, {"image": "put a"}),
        ({"image_name": "a", "image_1": "b"}, {"image_name": "a", "image_1": "put b"}),
    ],
    ids=str,
)
def test_the_pictures_of_a_row_are_those_that_training_reads(
    fields: dict[str, object], placed: dict[str, object]
) -> None:
    record = Record(file="a.json", index=0, fields={**fields, "question": "?"})
    assert with_pictures(record, lambda value: f"put {value}") == {**placed, "question": "?"}
