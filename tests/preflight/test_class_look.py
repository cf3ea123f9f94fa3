"""Tests of a classifier's inspection: its pictures are those that the model gets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.class_runs import checkpoint, write_config, write_questions
from vlm_lit.commands.lightning import prepared
from vlm_lit.preflight.inspection.class_look import inspect_classifier
from vlm_lit.preflight.inspection.class_report import ClassInspection
from vlm_lit.preflight.inspection.lengths import Lengths

Config = Callable[..., Path]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    write_questions(tmp_path, "train", 12)
    return partial(write_config, tmp_path, checkpoint(tmp_path / "vilt"), tmp_path)


def looked_at(path: Path, questions: int = 4, lengths: int = 256) -> ClassInspection:
    run = prepared(["--config", str(path), "--data.init_args.val=null"])
    return inspect_classifier(
        run.model, run.datamodule, run.trainer, questions=questions, lengths=lengths, say=lambda _: None
    )


def test_a_picture_is_the_one_that_the_model_gets(config: Config, tmp_path: Path) -> None:
    found = looked_at(config()).questions
    for question, name in ((found[0], "0"), (found[3], "1")):  # the second stands beside a taller one, and is padded
        with Image.open(tmp_path / "images" / f"{name}.png") as file:
            assert question.file_size == file.size
            own = np.asarray(file.convert("RGB").resize(question.size, Image.Resampling.BICUBIC), dtype=int)
        assert question.picture.size == question.size
        assert np.abs(np.asarray(question.picture, dtype=int) - own).mean() < 2


def test_a_picture_that_training_changes_is_shown_changed(config: Config) -> None:
    plain = looked_at(config()).questions[0]
    changed = looked_at(config(data={"augment": {"operations": 2}})).questions[0]
    assert np.abs(np.asarray(plain.picture, dtype=int) - np.asarray(changed.picture, dtype=int)).mean() > 2


def test_questions_are_shown_in_the_files_order_and_measured_in_that_of_training(config: Config) -> None:
    found = looked_at(config(), questions=2, lengths=5)
    assert [question.id for question in found.questions] == ["0", "1"]
    assert found.lengths.sample == "5 of 12 questions, those that training visits first"


def test_lengths_call_their_items_by_their_name() -> None:
    lengths = Lengths(tokens=(3,), total=1, max_length=40, over_length="cut", items="questions")
    assert lengths.sample == "all 1 questions"
