"""Tests of data set variations: they change what they say and nothing else, the same on every call."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from vlm_lit.cli import main
from vlm_lit.errors import VlmLitError
from vlm_lit.workbench import dataset
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.looks import Look, seen
from vlm_lit.workbench.questions import QA
from vlm_lit.workbench.world import scene
from vlm_lit.workbench.wrong_answers import with_wrong_answers

SPLITS = ("train", "val", "test")
BEFORE_VARIATIONS = "7b5d8359ff5d65c7b6633d16c1801404759db1532a9b108bdd5b2068f0ebcfdd"
"""SHA-256 of the three JSON files as they were written before there were variations."""
NOISY = "ac6e7cd76d8c63c4c8c7ec2e70ef9c87f09892ab91e799683e9f2226cfb1d132"
"""And of the training file with 30 % of its answers replaced, which no order of a set may change."""


def write(directory: Path, *, wrong_answers: float = 0.0, look: Look = "plain") -> Path:
    dataset.write(
        directory, train_images=20, val_images=6, test_images=8, seed=21, dialect="team",
        wrong_answers=wrong_answers, look=look,
    )  # fmt: skip
    return directory


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("plain") / "bench")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("noisy") / "bench", wrong_answers=0.3)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shifted") / "bench", look="shifted")


def rows(directory: Path, split: str = "train") -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((directory / f"{split}.json").read_text(encoding="utf-8"))
    return loaded


def answer(row: dict[str, Any]) -> str:
    said: str = row["conversations"][1]["value"]
    return said


def without_answer(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "conversations": row["conversations"][:1]}


def contents(directory: Path) -> dict[str, bytes]:
    return {str(f.relative_to(directory)): f.read_bytes() for f in directory.rglob("*") if f.is_file()}


def test_without_a_variation_the_files_are_what_they_were(plain: Path) -> None:
    written = b"".join((plain / f"{split}.json").read_bytes() for split in SPLITS)
    assert hashlib.sha256(written).hexdigest() == BEFORE_VARIATIONS
    assert sorted(path.name for path in plain.iterdir()) == [
        "images",
        "objects.json",
        "test.json",
        "train.json",
        "val.json",
    ]
    with Image.open(plain / "images" / "21-000000.png") as picture:
        assert picture.tobytes() == draw(scene(21, 0)).tobytes()


def test_the_asked_share_of_training_answers_is_another_valid_one(plain: Path, noisy: Path) -> None:
    true, given = rows(plain), rows(noisy)
    assert [without_answer(row) for row in given] == [without_answer(row) for row in true]
    wrong = [row["id"] for row, other in zip(true, given, strict=True) if answer(row) != answer(other)]
    assert len(wrong) == round(0.3 * len(true)) > 40
    valid: dict[tuple[str, str], set[str]] = {}
    for row in true:
        valid.setdefault((row["question_type"], row["answer_type"]), set()).add(answer(row))
    assert all(answer(row) in valid[row["question_type"], row["answer_type"]] for row in given)
    assert hashlib.sha256((noisy / "train.json").read_bytes()).hexdigest() == NOISY
    note = json.loads((noisy / dataset.NOTE).read_text())
    assert note == {"wrong_answers": {"share": 0.3, "wrong": len(wrong), "of": len(true), "ids": wrong}}


def test_what_is_not_trained_on_stays_true(plain: Path, noisy: Path) -> None:
    kept = {name: data for name, data in contents(noisy).items() if name not in ("train.json", dataset.NOTE)}
    assert kept == {name: data for name, data in contents(plain).items() if name != "train.json"}


def test_a_shifted_look_changes_every_picture_and_no_word(plain: Path, shifted: Path) -> None:
    assert json.loads((shifted / dataset.NOTE).read_text()) == {"look": "shifted"}
    before, after = contents(plain), contents(shifted)
    assert before.keys() == after.keys() - {dataset.NOTE}
    for name, data in before.items():
        assert (after[name] != data) is name.endswith(".png"), name
    for image in {row["image"] for split in SPLITS for row in rows(shifted, split)}:
        with Image.open(plain / image) as ours, Image.open(shifted / image) as theirs:
            assert (theirs.format, theirs.mode, theirs.size) == ("PNG", "RGB", ours.size)
            # The light alone darkens white by 21, 45 and 87 of 255.
            assert all(change > 15 for change in ImageStat.Stat(ImageChops.difference(ours, theirs)).mean[1:])


def test_a_shifted_picture_still_shows_its_scene() -> None:
    shown = scene(21, 0)
    ours, theirs = draw(shown).convert("L"), seen(draw(shown), "shifted", shown.name).convert("L")
    spread = ImageStat.Stat(ours).stddev[0] * ImageStat.Stat(theirs).stddev[0]
    means = ImageStat.Stat(ours).mean[0], ImageStat.Stat(theirs).mean[0]
    pairs = zip(ours.tobytes(), theirs.tobytes(), strict=True)
    together = sum((a - means[0]) * (b - means[1]) for a, b in pairs) / (ours.width * ours.height)
    assert together / spread > 0.5


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(("wrong_answers", "look"), [(0.3, "plain"), (0.0, "shifted"), (1.0, "shifted")])
def test_the_same_variation_is_the_same_bytes(wrong_answers: float, look: Look, tmp_path: Path) -> None:
    first, again = (write(tmp_path / name, wrong_answers=wrong_answers, look=look) for name in ("first", "again"))
    assert contents(first) == contents(again)


def test_wrong_answers_are_spread_evenly_over_the_other_ones() -> None:
    asked = [QA(f"{i}?", "abc"[i % 3], "other", "colour") for i in range(900)]
    changed = with_wrong_answers(asked, 1.0, Random("spread"))
    assert [qa.question for qa in changed] == [qa.question for qa in asked]
    pairs = [(old.answer, new.answer) for old, new in zip(asked, changed, strict=True)]
    # Half of 300 each: 150 with a standard deviation of 8.7, here within four of them.
    assert {pair: 115 < pairs.count(pair) < 185 for pair in pairs} == dict.fromkeys(
        [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")], True
    )


def test_answers_without_another_valid_one_stay_true() -> None:
    asked = [QA("1?", "on", "other", "lamp"), QA("2?", "yes", "yes/no", "lamp"), QA("3?", "no", "yes/no", "lamp")]
    changed = with_wrong_answers(asked, 0.6, Random(0))
    assert [qa.answer for qa in changed] == ["on", "no", "yes"]
    with pytest.raises(VlmLitError, match=r"only 2 of 3 training answers .* more --train_images"):
        with_wrong_answers(asked, 1.0, Random(0))


def test_too_many_wrong_answers_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(VlmLitError, match="training answers have another"):
        dataset.write(
            tmp_path / "bench", train_images=1, val_images=1, test_images=1, seed=21, dialect="team", wrong_answers=1.0
        )
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_writes_a_variation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, few = tmp_path / "bench", ["--train_images", "4", "--val_images", "1", "--test_images", "1"]
    asked = ["workbench", "--output", str(target), *few, "--wrong_answers", "0.25", "--look", "shifted"]
    assert main(asked) == 0
    note = json.loads((target / dataset.NOTE).read_text())
    assert (note["look"], note["wrong_answers"]["share"]) == ("shifted", 0.25)
    assert "variation.json on what was varied" in capsys.readouterr().out


# Descriptions ---------------------------------------------------------------------------------------------------------


def test_descriptions_stand_in_files_of_their_own(tmp_path: Path, plain: Path) -> None:
    target, counts = tmp_path / "bench", {"train": 20, "val": 6, "test": 8}
    more = [word for split, count in counts.items() for word in (f"--{split}_images", str(count))]
    assert main(["workbench", "--output", str(target), "--seed", "21", *more, "--descriptions"]) == 0
    for path in plain.rglob("*.*"):  # all that is there without them is there still, to the byte
        assert (target / path.relative_to(plain)).read_bytes() == path.read_bytes()
    start = 0
    for split, count in counts.items():
        rows = json.loads((target / f"describe_{split}.json").read_text())
        for row, shown in zip(rows, [scene(21, start + k) for k in range(count)], strict=True):
            asked, said = (turn["value"] for turn in row["conversations"])
            assert (row["image_id"], row["question_type"]) == (shown.name, "describe")
            assert (target / row["image"]).is_file()
            assert asked == "<image>\ndescribe the image."
            # However many things there are, each is named in its place.
            assert [phrase.split()[2 if item.color else 1] for phrase, item in
                    zip(said.split(", "), shown.items, strict=True)] == [item.kind for item in shown.items]  # fmt: skip
        start += count
    assert any(len(scene(21, k).items) > 5 for k in range(start))
