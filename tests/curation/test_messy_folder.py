"""Tests of a messy folder curated: each of its kinds of dirt comes to what is expected, and every row is somewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import messy_folder
from tests.support.html_page import Page
from tests.support.messy_folder import KEPT, MERGED, Expected, Messy
from tests.support.refusals import edited
from vlm_lit.cli import main
from vlm_lit.data.images.images import check_images
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings

SPLITS = ("train", "val", "test")


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def kept(output: Path) -> dict[str, str]:
    """The split of each kept row, by its id."""
    return {row["id"]: split for split in SPLITS for row in rows(output / f"{split}.jsonl")}


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Messy:
    return messy_folder.write(tmp_path_factory.mktemp("messy"))


@pytest.fixture(scope="module")
def curated(messy: Messy) -> Path:
    output = messy.folder / "curated"
    assert main(messy.arguments(output)) == 0
    return output


@pytest.fixture(scope="module")
def found(messy: Messy, curated: Path) -> dict[tuple[str, int], str]:
    """What became of each row that was not kept, by its file and place."""

    def place(row: dict[str, Any]) -> tuple[str, int]:
        return Path(row["source"]).relative_to(messy.folder).as_posix(), row["record"]

    merged = {place(row): MERGED for row in rows(curated / "merged.jsonl")}
    rejected = {place(row): row["reason"] for row in rows(curated / "rejects.jsonl")}
    assert not merged.keys() & rejected.keys()
    return merged | rejected


def test_there_are_many_kinds(messy: Messy) -> None:
    assert len({one.kind for one in messy.expected}) >= 60
    assert len({one.outcome for one in messy.expected}) >= 40


def test_each_row_comes_to_what_is_expected(messy: Messy, found: dict[tuple[str, int], str]) -> None:
    wrong = {
        one.kind: (one.outcome, came)
        for one in messy.expected
        if (came := found.get((one.source, one.record), KEPT)) != one.outcome
    }
    assert wrong == {}


def test_kept_rows_are_written_once_and_under_their_names(messy: Messy, curated: Path) -> None:
    ids = [row["id"] for split in SPLITS for row in rows(curated / f"{split}.jsonl")]
    assert len(ids) == len(set(ids))
    wanted = {one.kind for one in messy.expected if one.outcome == KEPT} - {"no id"}
    wanted = wanted - {"id of an earlier row"} | {"plain path#2"}
    (made,) = set(ids) - wanted
    assert wanted <= set(ids)
    assert len(made) == 21  # of a row without an id: its picture's digest and its question's


def test_the_sum_is_right(messy: Messy, curated: Path) -> None:
    counts = json.loads((curated / "curation.json").read_text())
    outcomes = Counter(one.outcome for one in messy.expected)
    assert counts["read"] == len(messy.expected)
    assert counts["kept"] == outcomes.pop(KEPT) == sum(counts["splits"].values()) == len(kept(curated))
    assert counts["merged"] == outcomes.pop(MERGED)
    assert counts["rejected"] == dict(sorted(outcomes.items()))
    assert counts["read"] == counts["kept"] + counts["merged"] + sum(counts["rejected"].values())
    assert counts["duplicates_across_splits"] == 0
    assert counts["duplicates"] == {"exact_duplicates": 2, "near_duplicates": 4}
    assert {row["issue"] for row in rows(curated / "duplicates.jsonl")} == {"exact_duplicates", "near_duplicates"}


def test_near_duplicates_stand_on_one_split(curated: Path) -> None:
    split = kept(curated)
    near = [name for name in split if "near duplicate" in name or name in ("copy of the picture, other words",)]
    assert len(near) == 4
    assert {split[name] for name in near} == {split["a picture that has copies"]}


def test_contradictions_are_reported(curated: Path) -> None:
    said = [row["answers"] for row in rows(curated / "contradictions.jsonl") if row["question"] == "how many?"]
    assert said == [{"2": 2, "3": 1}]  # "two" was counted as 2, and merged


def test_rows_keep_their_own_words(curated: Path) -> None:
    written = {row["id"]: row for split in SPLITS for row in rows(curated / f"{split}.jsonl")}
    assert written["a picture that has copies"]["answer"] == "Yes"
    assert written["two annotators"]["answers"] == ["red", "blue"]
    labelled = {name: written[name]["answer"] for name in ("a number", "a rating", "a date", "a number alone")}
    assert labelled == {"a number": "3", "a rating": "4", "a date": "2024-05-01", "a number alone": "2.5"}
    assert written["UTF-16"]["answer"] == "grün"
    assert written["line break in a cell"]["question"] == "Was ist\ndas hier?"
    assert len(written["ten answers"]["answers"]) == 10


@pytest.mark.parametrize("split", SPLITS)
def test_training_takes_what_was_kept(curated: Path, split: str) -> None:
    source = SourceSettings(path=str(curated / f"{split}.jsonl"))
    data = open_source(source, prompt=None, system=None, requires_answer=True, check_images=True)
    assert isinstance(data, ConversationDataset)
    assert all(check_images(data[k]) for k in range(len(data)))
    assert data.ids == [row["id"] for row in rows(curated / f"{split}.jsonl")]


def test_inspect_accepts_it(config: Callable[..., Path], curated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"data.init_args.train.path": str(curated / "train.jsonl"), "data.init_args.max_length": None}
    assert main(["inspect", "--config", str(edited(config(), changes)), "--format", "json", "--lengths", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["conversations"][0]["id"] == "plain path"


def test_the_page_is_one_file_with_everything_escaped(messy: Messy, curated: Path) -> None:
    page = Page((curated / "curation.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.handlers == []
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    said = " ".join(page.text.split())
    assert f"{len(messy.expected)} read = " in said
    assert page.text.count("cannot be shown") < len(page.addresses)
    assert "word " * 80 not in said  # a very long answer is cut
    for one in messy.expected:
        assert one.outcome in (KEPT, MERGED) or f"{one.outcome}: " in said


def test_copied_pictures_are_files(messy: Messy, tmp_path: Path) -> None:
    output = tmp_path / "copied"
    assert main([*messy.arguments(output), "--copy_images"]) == 0
    names = [name for split in SPLITS for row in rows(output / f"{split}.jsonl") for name in [row.get("image")] if name]
    assert names
    assert all((output / name).is_file() and not (output / name).is_symlink() for name in names)
    assert not any(path.is_symlink() for path in (output / "images").iterdir())


@pytest.mark.parametrize("first", [True, False])
def test_a_hundred_rows_more_move_no_row(messy: Messy, curated: Path, tmp_path: Path, first: bool) -> None:
    """New pictures, near duplicates of old ones among them: in a file behind the others, or before them."""
    more = Messy(messy.folder, list[Expected](), _pictures=1000)
    added = []
    for k in range(100):
        if k % 4 == 0:
            old = more.photos / ["plain.png", "words.png", "table.png", "json.png", "labelled.png"][k // 4 % 5]
            name = f"more{k}.jpg"
            (more.photos / name).write_bytes(_compressed(old, 90 - k // 4))
        else:
            name = more.photo(f"more{k}.png")
        added.append({"id": f"more {k}", "image": name, "question": f"is it {k}?", "answer": "yes"})
    source = tmp_path / "more.jsonl"
    source.write_text("\n".join(map(json.dumps, added)) + "\n")
    verb, *arguments = messy.arguments(tmp_path / "grown")
    if first:
        words = [verb, str(source), *arguments, "--previous", str(curated)]
    else:
        words = [verb, *arguments[: len(messy.sources)], str(source), *arguments[len(messy.sources) :]]
    assert main(words) == 0
    before, after = kept(curated), kept(tmp_path / "grown")
    assert {name: after.get(name) for name in before} == before
    assert len(after) == len(before) + 100
    for k in range(0, 100, 4):
        old_row = ["plain path", "ten answers", "german names", "under a key", "one choice"][k // 4 % 5]
        assert after[f"more {k}"] == before[old_row]
    assert json.loads((tmp_path / "grown/curation.json").read_text())["duplicates_across_splits"] == 0


def _compressed(picture: Path, quality: int) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.open(picture).convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
