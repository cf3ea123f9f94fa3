"""Tests of easy-VQA's preparation: nothing of the held-out images is trained on, and pairs tell two images apart."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from tests.support.steps import CONFIGS

LOOKS = [(shape, colour) for shape in ("circle", "triangle") for colour in ("red", "blue")] * 3


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("easy")
    for part in ("train", "test"):
        (folder / "source" / part / "images").mkdir(parents=True)
        asked: list[Sequence[object]] = []
        for image, (shape, colour) in enumerate(LOOKS):
            Image.new("RGB", (8, 8)).save(folder / "source" / part / "images" / f"{image}.png")
            asked += [
                ("what shape is it?", shape, image),
                ("what color is it?", colour, image),
                ("is it red?", "yes" if colour == "red" else "no", image),
                (f"is there a {shape}?", "yes", image),
            ]
        (folder / "source" / part / "questions.json").write_text(json.dumps(asked))
    script = CONFIGS.parent / "scripts" / "easy_vqa" / "prepare_easy_vqa.py"
    words = ["--source", str(folder / "source"), "--output", str(folder / "easy_vqa"), "--held_out", "3"]
    subprocess.run([sys.executable, str(script), *words], check=True)
    assert len(list((folder / "easy_vqa" / "images").iterdir())) == 24
    return {path.stem: json.loads(path.read_text()) for path in (folder / "easy_vqa").glob("*.json")}


def test_held_out_images_are_not_trained_on(prepared: dict[str, list[dict[str, Any]]]) -> None:
    images = {split: {one["image_id"] for one in rows} for split, rows in prepared.items()}
    assert (len(images["train"]), len(images["val"]), len(images["test"])) == (9, 3, 12)
    assert images["train"] == images["train_questions"]
    assert not images["train"] & images["val"]


def test_pairs_are_one_question_about_two_images_that_answer_it_differently(
    prepared: dict[str, list[dict[str, Any]]],
) -> None:
    rows = prepared["counterfactual_test"]
    assert len(rows) == 12
    assert len({row["image_id"] for row in rows}) == 12
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert (first["question"], first["id"][:-6]) == (second["question"], second["id"][:-7])
        assert (first["id"][-6:], second["id"][-7:]) == ("/first", "/second")
        assert first["answers"] != second["answers"]
        assert "color" not in first["question"]  # images that differ in shape alone are as near: one question apart
