"""Data set files of the workbench: images with LLaVA-style JSON, as a user's own data would be."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final, Literal

from vlm_lit.errors import VlmLitError
from vlm_lit.files.whole import write_folder_whole
from vlm_lit.workbench.counterfactuals import counterfactual_pairs
from vlm_lit.workbench.dialect import TEAM
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.looks import Look, seen
from vlm_lit.workbench.objects import OBJECT_WORDS, OBJECTS_FILE
from vlm_lit.workbench.questions import PLAIN, QA, Language, ask, description
from vlm_lit.workbench.world import Scene, scene
from vlm_lit.workbench.wrong_answers import with_wrong_answers

Dialect = Literal["plain", "team"]
LANGUAGES: Final[dict[Dialect, Language]] = {"plain": PLAIN, "team": TEAM}
TRAIN_QUESTIONS: Final = 8
EVALUATION_QUESTIONS: Final = 5
NOTE: Final = "variation.json"
PAIRS_FILE: Final = "counterfactual_test.json"
PAIRS_A_SCENE: Final = 2


@dataclass(frozen=True)
class _Row:
    """A question of the data set: its scene, its place among the questions about that scene, and what is answered.

    That of a question which stands in a file of its own is its name.
    """

    shown: Scene
    place: int | str
    qa: QA

    @property
    def id(self) -> str:
        return f"{self.shown.name}-{self.place}"


def write(
    directory: Path,
    *,
    train_images: int,
    val_images: int,
    test_images: int,
    seed: int,
    dialect: Dialect,
    wrong_answers: float = 0.0,
    look: Look = "plain",
    descriptions: bool = False,
    label: str | None = None,
    counterfactual: bool = False,
    bases: bool = False,
) -> dict[str, Path]:
    """Write a data set into the new or empty folder `directory`, whole or not at all.

    Args:
        directory: gets `images/*.png`, `train.json`, `val.json` and `test.json`: one conversation per question, those
            about one image side by side; `objects.json`, the words for each kind of thing; and `variation.json` where
            either of the last two arguments changes anything.
        train_images, val_images, test_images: how many scenes each split has; no scene is in two.
        seed: the world's seed; the base model was trained on other seeds.
        dialect: `plain`, the language of the base model, or `team`, which it has never seen.
        wrong_answers: share of the training answers, 0..1, replaced by other valid ones; `variation.json` lists their
            ids. Validation and test answers stay true.
        look: `plain`, or `shifted`: the pictures of all three splits in another light, soft and grainy.
        descriptions: write `describe_train.json` and those of the other splits as well: one conversation per scene
            that asks for all that is on it.
        label: what each record says under `source`, by which scores of several data sets can be told apart.
        counterfactual: write `counterfactual_test.json` as well: pairs of records that ask one question about a scene
            of the test and about another one, which differs in the one thing asked.
        bases: write the base models as well: in `base/` the one that generates answers, in `vilt/` the one that
            chooses them.

    Returns:
        The JSON file of each split, by the split's name.

    Raises:
        VlmLitError: the folder already holds something, or too few answers can be wrong.
    """
    if directory.exists() and any(directory.iterdir()):
        raise VlmLitError(f"{directory} is not empty. Give a new folder, or remove what is there.")
    sizes = {"train": train_images, "val": val_images, "test": test_images}

    def fill(folder: Path) -> None:
        rows = _draw_splits(folder, sizes, seed, dialect, look)
        marked = {} if label is None else {"source": label}
        note: dict[str, object] = {"look": look} if look != "plain" else {}
        if wrong_answers:
            note |= _spoil(rows["train"], wrong_answers, Random(f"workbench wrong answers {seed}/{dialect}"))
        for split, found in rows.items():
            _write_json(folder / f"{split}.json", [{**_conversation(row), **marked} for row in found])
            if descriptions:
                described = {row.shown.name: _Row(row.shown, "describe", description(row.shown)) for row in found}
                rows_of = [{**_conversation(row), **marked} for row in described.values()]
                _write_json(folder / f"describe_{split}.json", rows_of)
        if counterfactual:
            pairs = _draw_pairs(folder, rows["test"], dialect, look)
            _write_json(folder / PAIRS_FILE, [{**record, **marked} for record in pairs])
        _write_json(folder / OBJECTS_FILE, OBJECT_WORDS)
        if note:
            _write_json(folder / NOTE, note)
        if bases:
            from vlm_lit.workbench.base_model import copy_base
            from vlm_lit.workbench.vilt_model import copy_vilt_base

            copy_base(folder / "base")
            copy_vilt_base(folder / "vilt")

    write_folder_whole(directory, fill)
    return {split: directory / f"{split}.json" for split in ("train", "val", "test")}


def questions(shown: Scene, dialect: Dialect, count: int) -> list[QA]:
    """The questions that the data set has about a scene; the same ones on every call."""
    return ask(shown, Random(f"workbench questions {shown.name}/{dialect}"), count, LANGUAGES[dialect])


def _draw_splits(folder: Path, sizes: dict[str, int], seed: int, dialect: Dialect, look: Look) -> dict[str, list[_Row]]:
    """Write the pictures; the questions of each split with their true answers."""
    (folder / "images").mkdir()
    rows: dict[str, list[_Row]] = {}
    start = 0
    for split, size in sizes.items():
        scenes = [scene(seed, index) for index in range(start, start + size)]
        start += size
        for shown in scenes:
            seen(draw(shown), look, shown.name).save(folder / _image(shown))
        count = TRAIN_QUESTIONS if split == "train" else EVALUATION_QUESTIONS
        rows[split] = [_Row(shown, n, qa) for shown in scenes for n, qa in enumerate(questions(shown, dialect, count))]
    return rows


def _draw_pairs(folder: Path, rows: list[_Row], dialect: Dialect, look: Look) -> list[dict[str, object]]:
    """Write the changed pictures; the records of all pairs, those of one side by side."""
    found = []
    for shown in {row.shown.name: row.shown for row in rows}.values():
        rng = Random(f"workbench counterfactual {shown.name}/{dialect}")
        pairs = counterfactual_pairs(shown, LANGUAGES[dialect], PAIRS_A_SCENE, rng)
        for n, pair in enumerate(pairs):
            other = f"{shown.name}-other{n}"
            seen(draw(pair.changed), look, shown.name).save(folder / f"images/{other}.png")
            for side, name, qa in (("first", shown.name, pair.first), ("second", other, pair.second)):
                record = _conversation(_Row(shown, f"pair{n}/{side}", qa))
                found.append({**record, "image": f"images/{name}.png", "changed": pair.what})
    return found


def _spoil(rows: list[_Row], share: float, rng: Random) -> dict[str, object]:
    """Replace a share of the answers in place; what the data set's note says about it."""
    spoiled = with_wrong_answers([row.qa for row in rows], share, rng)
    wrong = [row.id for row, said in zip(rows, spoiled, strict=True) if said != row.qa]
    rows[:] = [replace(row, qa=said) for row, said in zip(rows, spoiled, strict=True)]
    return {"wrong_answers": {"share": share, "wrong": len(wrong), "of": len(rows), "ids": wrong}}


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _conversation(row: _Row) -> dict[str, object]:
    return {
        "id": row.id,
        "image": _image(row.shown),
        "image_id": row.shown.name,
        "conversations": [
            {"from": "human", "value": f"<image>\n{row.qa.question}"},
            {"from": "gpt", "value": row.qa.answer},
        ],
        "answer_type": row.qa.answer_type,
        "question_type": row.qa.question_type,
    }


def _image(shown: Scene) -> str:
    return f"images/{shown.name}.png"
