"""Tests of the workbench's files: whole, in the usual form, with no scene in two splits."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlm_lit.cli import main
from vlm_lit.errors import VlmLitError
from vlm_lit.workbench import dataset
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.world import Scene

Rows = list[dict[str, Any]]


def write(directory: Path, *, seed: int = 21, dialect: dataset.Dialect = "team") -> dict[str, Path]:
    return dataset.write(directory, train_images=20, val_images=6, test_images=8, seed=seed, dialect=dialect)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("workbench") / "bench"
    assert write(directory) == {split: directory / f"{split}.json" for split in ("train", "val", "test")}
    return directory


def rows(directory: Path, split: str) -> Rows:
    loaded: Rows = json.loads((directory / f"{split}.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_rows_have_the_llava_form(written: Path, split: str) -> None:
    for row in rows(written, split):
        turns = row["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        assert turns[0]["value"].startswith("<image>\n")
        assert "<image>" not in "".join(turn["value"] for turn in turns[1:])
        assert all(turn["value"].strip() for turn in turns)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_image_can_be_read(written: Path, split: str) -> None:
    for row in rows(written, split):
        with Image.open(written / row["image"]) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (224, 224))


def test_each_question_is_a_row_of_its_own(written: Path) -> None:
    train, test = rows(written, "train"), rows(written, "test")
    assert len({row["image"] for row in train}) == 20
    assert max(Counter(row["image"] for row in train).values()) == dataset.TRAIN_QUESTIONS
    assert {len(row["conversations"]) for row in (*train, *test)} == {2}
    assert len({row["image_id"] for row in test}) == 8
    assert len({row["id"] for row in test}) == len(test) > 24
    assert {row["answer_type"] for row in test} <= {"yes/no", "number", "other", "json"}
    assert all(row["question_type"] for row in test)


def test_no_scene_is_in_two_splits(written: Path) -> None:
    digests = {
        split: {hashlib.sha256((written / row["image"]).read_bytes()).hexdigest() for row in rows(written, split)}
        for split in ("train", "val", "test")
    }
    assert [len(found) for found in digests.values()] == [20, 6, 8]
    assert len(set.union(*digests.values())) == 34 == len(list((written / "images").iterdir()))


def test_the_same_seed_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write(tmp_path / "again")
    write(tmp_path / "other", seed=22)
    for file in ("train.json", "val.json", "test.json"):
        assert (tmp_path / "again" / file).read_bytes() == (written / file).read_bytes()
        assert (tmp_path / "other" / file).read_bytes() != (written / file).read_bytes()


def test_the_dialects_share_their_pictures_and_differ_in_words(written: Path, tmp_path: Path) -> None:
    write(tmp_path / "plain", dialect="plain")
    image = rows(written, "train")[0]["image"]
    assert (tmp_path / "plain" / image).read_bytes() == (written / image).read_bytes()
    assert (tmp_path / "plain" / "train.json").read_bytes() != (written / "train.json").read_bytes()


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(VlmLitError, match="is not empty"):
        write(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Scene] = []

    def draw_some(shown: Scene) -> Image.Image:
        drawn.append(shown)
        if len(drawn) > 10:
            raise KeyboardInterrupt
        return draw(shown)

    monkeypatch.setattr(dataset, "draw", draw_some)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "bench")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    write(tmp_path / "bench")
    assert (tmp_path / "bench" / "train.json").exists()


_KILLED = """
import os, signal, sys
from vlm_lit.cli import main
from vlm_lit.workbench import base_model, vilt_model
owner = base_model if sys.argv[1] == "copy_base" else vilt_model
setattr(owner, sys.argv[1], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
main(["workbench", "--output", sys.argv[2], "--train_images", "2", "--val_images", "1", "--test_images", "1"])
"""


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("moment", ["copy_base", "copy_vilt_base"])
def test_a_kill_before_its_models_are_there_leaves_nothing_that_is_in_the_way(moment: str, tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    killed = subprocess.run([sys.executable, "-c", _KILLED, moment, str(folder)], capture_output=True, check=False)
    assert killed.returncode == -9
    assert not folder.exists()
    words = ["--train_images", "2", "--val_images", "1", "--test_images", "1"]
    assert main(["workbench", "--output", str(folder), *words]) == 0
    assert (folder / "vilt" / "config.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["bench"]
