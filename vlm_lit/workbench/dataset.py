"""Which files would a user of the workbench have? Images with LLaVA-style JSON, as a user's own data would be."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final, Literal

from vlm_lit.schema import VlmLitError
from vlm_lit.workbench.dialect import TEAM
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.questions import PLAIN, QA, Language, ask
from vlm_lit.workbench.world import Scene, scene

Dialect = Literal["plain", "team"]
LANGUAGES: Final[dict[Dialect, Language]] = {"plain": PLAIN, "team": TEAM}
TRAIN_QUESTIONS: Final = 8
EVALUATION_QUESTIONS: Final = 5


def write(
    directory: Path,
    *,
    train_images: int,
    val_images: int,
    test_images: int,
    seed: int,
    dialect: Dialect,
) -> dict[str, Path]:
    """Write a data set into the new or empty folder `directory`, whole or not at all.

    Args:
        directory: gets `images/*.png`, `train.json`, `val.json` and `test.json`: one conversation per question, those
            about one image side by side.
        train_images, val_images, test_images: how many scenes each split has; no scene is in two.
        seed: the world's seed; the base model was trained on other seeds.
        dialect: `plain`, the language of the base model, or `team`, which it has never seen.

    Returns:
        The JSON file of each split, by the split's name.

    Raises:
        VlmLitError: the folder already holds something.
    """
    if directory.exists() and any(directory.iterdir()):
        raise VlmLitError(f"{directory} is not empty. Give a new folder, or remove what is there.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        unfinished.chmod(0o755)
        _write_splits(unfinished, {"train": train_images, "val": val_images, "test": test_images}, seed, dialect)
        os.replace(unfinished, directory)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return {split: directory / f"{split}.json" for split in ("train", "val", "test")}


def questions(shown: Scene, dialect: Dialect, count: int) -> list[QA]:
    """The questions that the data set has about a scene; the same ones on every call."""
    return ask(shown, Random(f"workbench questions {shown.name}/{dialect}"), count, LANGUAGES[dialect])


def _write_splits(folder: Path, sizes: dict[str, int], seed: int, dialect: Dialect) -> None:
    (folder / "images").mkdir()
    start = 0
    for split, size in sizes.items():
        scenes = [scene(seed, index) for index in range(start, start + size)]
        start += size
        for shown in scenes:
            draw(shown).save(folder / _image(shown))
        count = TRAIN_QUESTIONS if split == "train" else EVALUATION_QUESTIONS
        rows = [row for shown in scenes for row in _conversations(shown, dialect, count)]
        (folder / f"{split}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _conversations(shown: Scene, dialect: Dialect, count: int) -> Iterator[dict[str, object]]:
    for place, qa in enumerate(questions(shown, dialect, count)):
        yield {
            "id": f"{shown.name}-{place}",
            "image": _image(shown),
            "image_id": shown.name,
            "conversations": [
                {"from": "human", "value": f"<image>\n{qa.question}"},
                {"from": "gpt", "value": qa.answer},
            ],
            "answer_type": qa.answer_type,
            "question_type": qa.question_type,
        }


def _image(shown: Scene) -> str:
    return f"images/{shown.name}.png"
