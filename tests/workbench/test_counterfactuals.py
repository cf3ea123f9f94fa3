"""Tests of counterfactual pairs: one thing changed, one question, two true answers that differ."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from random import Random

import pytest
from PIL import Image, ImageChops

from vlm_lit.cli import main
from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.schema import Record
from vlm_lit.workbench.counterfactuals import CounterfactualPair, counterfactual_pairs
from vlm_lit.workbench.dataset import LANGUAGES, PAIRS_A_SCENE, Dialect
from vlm_lit.workbench.questions import distance
from vlm_lit.workbench.world import Scene, SceneItem, scene

_FIELDS = {
    "colour": {"color", "rgb"},
    "kind": {"kind", "half_height"},
    "place": {"x", "y", "row", "column"},
    "lamp": {"lit"},
    "gauge": {"reading"},
}


def pairs_of(dialect: Dialect, scenes: int = 12) -> list[tuple[Scene, CounterfactualPair]]:
    shown = [scene(5, i) for i in range(scenes)]
    return [
        (one, pair)
        for one in shown
        for pair in counterfactual_pairs(one, LANGUAGES[dialect], PAIRS_A_SCENE, Random(one.name))
    ]


def apart(a: Scene, b: Scene) -> list[set[str]]:
    """Of each item that is not in both scenes the fields in which it differs from the one it is nearest to."""
    gone, new = ([item for item in one.items if item not in other.items] for one, other in ((a, b), (b, a)))
    return [
        {f.name for f in fields(SceneItem) if getattr(x, f.name) != getattr(y, f.name)}
        for x, y in zip(gone, new, strict=True)
    ]


@pytest.mark.parametrize("dialect", ["plain", "team"])
def test_a_pair_differs_in_one_property_of_one_item_and_in_the_answer(dialect: Dialect) -> None:
    found = pairs_of(dialect)
    assert len(found) >= 20
    for shown, pair in found:
        (names,) = apart(shown, pair.changed)
        assert names <= _FIELDS[pair.what]
        assert (pair.changed.name, pair.changed.background) == (shown.name, shown.background)
        assert pair.first.question == pair.second.question
        assert pair.first.answer != pair.second.answer
        assert pair.first.question_type == pair.second.question_type
    assert found == pairs_of(dialect)
    assert len({pair.what for _, pair in found}) >= 4


def test_the_answers_are_true_of_their_scenes() -> None:
    """Looked up in the scene, for those questions whose answer is one look away."""
    looked = 0
    for shown, pair in pairs_of("plain", 40):
        for there, qa in ((shown, pair.first), (pair.changed, pair.second)):
            words = qa.question.rstrip("?").split()
            if qa.question.startswith("how many squares apart"):
                a, b = (there.of_kind(words[i])[0] for i in (words.index("the") + 1, -1))
                assert qa.answer == str(distance(a, b))
            elif qa.question_type == "gauge":
                assert qa.answer == str(there.of_kind("gauge")[0].reading)
            elif qa.question.startswith("in which row is the"):
                assert qa.answer == str(there.of_kind(words[-1])[0].row)
            else:
                continue
            looked += 1
    assert looked >= 10


def test_the_workbench_writes_pairs_on_request_and_changes_nothing_else(tmp_path: Path) -> None:
    words = ["workbench", "--train_images", "2", "--val_images", "1", "--test_images", "4", "--seed", "3"]
    assert main([*words, "--output", str(tmp_path / "without")]) == 0
    assert main([*words, "--output", str(tmp_path / "with"), "--counterfactual", "--label", "mine"]) == 0
    rows = json.loads((tmp_path / "with" / "counterfactual_test.json").read_text())
    assert len(rows) == 2 * PAIRS_A_SCENE * 4
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert first["id"].removesuffix("/first") == second["id"].removesuffix("/second")
        assert first["image_id"] == second["image_id"]
        assert first["source"] == "mine"
        pictures = [Image.open(tmp_path / "with" / row["image"]) for row in (first, second)]
        changed = ImageChops.difference(*pictures).getbbox()
        assert changed is not None
        for row in (first, second):
            record = Record(fields=row, file="pairs.json", index=0, image_root=tmp_path / "with")
            assert to_conversation(record, requires_answer=True).notes == ()
        if first["changed"] in ("colour", "lamp", "gauge"):
            assert (changed[2] - changed[0]) * (changed[3] - changed[1]) < 0.45 * 224 * 224
    for split in ("train", "val", "test"):
        one, other = (json.loads((tmp_path / name / f"{split}.json").read_text()) for name in ("without", "with"))
        assert [{**row, "source": "mine"} for row in one] == other
    assert not (tmp_path / "without" / "counterfactual_test.json").exists()
