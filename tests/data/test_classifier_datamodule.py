"""The data module of a classifier: its answers, what it leaves out, its batches, and what a resumed run must share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from tests.support.class_runs import checkpoint, write_questions
from tests.support.plain_runs import quiet_trainer
from vlm_lit import ClassifierDataModule, ConfigError, RecordError, SourceSettings, VocabularySettings
from vlm_lit.schema import ClassBatch, StepBatch

Made = Callable[..., ClassifierDataModule]


@pytest.fixture(scope="module")
def vilt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("vilt"))


@pytest.fixture
def made(vilt_folder: Path, tmp_path: Path) -> Made:
    def make(train: int = 24, outside: int = 0, **settings: Any) -> ClassifierDataModule:
        sources = {
            "train": str(write_questions(tmp_path, "train", train, outside=outside)),
            "val": str(write_questions(tmp_path, "val", 9, outside=3)),
        }
        data = ClassifierDataModule(str(vilt_folder), **{**sources, "num_workers": 0, **settings})
        data.trainer = quiet_trainer(tmp_path)
        return data

    return make


def test_answers_are_those_of_the_training_part_alone(made: Made) -> None:
    data = made()
    data.setup("fit")
    assert data.vocabulary.answers == ("yes", "no", "red", "blue", "2", "2 tools")
    both = made(vocabulary=VocabularySettings(source="train_and_val"))
    both.setup("fit")
    assert both.vocabulary.answers == (*data.vocabulary.answers, "lathe")


def test_a_validation_alone_counts_the_training_answers(made: Made) -> None:
    data = made()
    data.setup("validate")
    assert data.vocabulary.answers[0] == "yes"
    assert set(data.datasets) == {"val"}


def test_the_ceiling_is_said(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        made().setup("fit")
    assert "val: 6 answers cover 6 of 9 questions (66.7%); VQA accuracy can reach 66.7% at most." in caplog.text


def test_training_questions_without_an_answer_to_choose_are_left_out_before_steps_are_counted(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    data = made(train=27, outside=3, vocabulary=VocabularySettings(least_count=4), effective_batch=4)
    with caplog.at_level("INFO"):
        data.setup("fit")
    assert "3 of 27 training questions have none of the answers" in caplog.text
    train = data.datasets["train"]
    assert len(train) == 24  # type: ignore[arg-type]
    assert data.steps_per_epoch == 6
    assert train.ids == [str(i) for i in range(24)]  # type: ignore[union-attr]
    assert data.course()["conversations"] == 24


def test_questions_about_one_picture_are_visited_together(made: Made) -> None:
    data = made(effective_batch=6, questions_together=3)
    data.setup("fit")
    loader = data.train_dataloader()
    assert isinstance(loader, DataLoader)
    for step_batch in loader:
        assert isinstance(step_batch, StepBatch)
        pictures = [int(name) // 3 for name in step_batch.ids]
        assert len(set(pictures)) == 2
        assert all(isinstance(batch, ClassBatch) for batch in step_batch.micro_batches)
        assert step_batch.weight == 6


def test_scores_of_questions_that_cannot_be_answered_are_a_group_of_their_own(made: Made) -> None:
    data = made()
    data.setup("fit")
    items = data.asked("val")
    assert [items[i].groups["vocabulary"] for i in range(9)] == ["inside"] * 6 + ["outside"] * 3


def test_what_changes_the_numbers_is_part_of_the_course(made: Made) -> None:
    data = made()
    data.setup("fit")
    changes: tuple[dict[str, Any], ...] = (
        {"targets": "vilt"}, {"most_words": 8}, {"augment": {"operations": 2}}, {"questions_together": 1},
    )  # fmt: skip
    for changed in changes:
        other = made(**changed)
        other.setup("fit")
        assert other.course() != data.course()


def test_a_conversation_of_several_turns_is_refused_before_the_first_step(made: Made, tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "<image>\na?"}, {"from": "gpt", "value": "yes"}] * 2
    talk[2] = {"from": "human", "value": "b?"}
    path = tmp_path / "talks.json"
    path.write_text(json.dumps([{"id": "1", "image": "images/0.png", "conversations": talk}]))
    data = made()
    data.sources["train"] = SourceSettings(path=str(path))
    with pytest.raises(RecordError, match=r"3 turns before the answer.*Keep the question alone"):
        data.setup("fit")


def test_no_training_part_and_no_file_is_refused(made: Made) -> None:
    data = made(train=24)
    data.sources["train"] = None
    with pytest.raises(ConfigError, match=r"vocabulary\.file to the answers\.json"):
        data.setup("validate")
