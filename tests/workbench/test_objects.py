"""Tests of the workbench's table of objects: every kind, by every word that its questions and answers use."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from vlm_lit.metrics.object_words import object_words
from vlm_lit.workbench.objects import OBJECT_WORDS
from vlm_lit.workbench.questions import PLAIN, ask
from vlm_lit.workbench.world import KINDS, scene


def test_the_table_has_every_kind(tmp_path: Path) -> None:
    assert list(OBJECT_WORDS) == list(KINDS)
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(OBJECT_WORDS), encoding="utf-8")
    words = object_words(str(path))
    assert words.mentions("two wrenches, pliers, a red hammer and HMR-1") == ["wrench", "pliers", "hammer", "hammer"]


def test_a_true_description_names_what_the_scene_shows_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(OBJECT_WORDS), encoding="utf-8")
    words = object_words(str(path))
    described = 0
    for index in range(60):
        shown = scene(5, index)
        for qa in ask(shown, Random(index), 40, PLAIN):
            if qa.question_type == "describe":
                described += 1
                assert words.mentions(qa.answer) == [item.kind for item in shown.items]
    assert described > 20
