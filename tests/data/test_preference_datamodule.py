"""Tests of the data module of preferences: what it reads, leaves out, refuses and batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import small_data
from tests.support.pairs import write_pairs
from vlm_lit.data.preference_datamodule import PreferenceDataModule
from vlm_lit.data.records.preference_dataset import PreferenceDataset
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.rows.pairs import PairBatch
from vlm_lit.errors import ConfigError, RecordError, raised
from vlm_lit.schema import EvaluationBatch, Preference

Made = Callable[..., PreferenceDataModule]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_pairs(tmp_path, 12, per_image=3)
    write_pairs(tmp_path, 5, prefix="val")
    small_data.write_conversations(tmp_path, 4, turns=1, prefix="asked")
    return tmp_path


@pytest.fixture
def made(tiny_llava: Path, files: Path) -> Made:
    def make(**settings: Any) -> PreferenceDataModule:
        usual = {"train": str(files / "pairs.json"), "num_workers": 0, "effective_batch": 4}
        data = PreferenceDataModule(str(tiny_llava), **{**usual, **settings})
        data.setup("fit")
        return data

    return make


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))
    return path


def test_pairs_are_read_counted_and_batched(made: Made) -> None:
    data = made()
    train: Any = data.indexed("train")
    assert isinstance(train, PreferenceDataset)
    assert (len(train), train.ids, train.findings.records) == (12, [str(i) for i in range(12)], 12)
    step = raised(data.collator()([train[i] for i in (0, 1, 3)]))
    assert isinstance(step.micro_batches[0], PairBatch)
    assert step.weight == 3
    assert sorted(step.ids) == sorted(f"{i}/{side}" for i in (0, 1, 3) for side in ("chosen", "rejected"))
    for batch in step.micro_batches:
        assert all(name.endswith("/chosen") for name in batch.ids[0::2])
        assert [name.partition("/")[0] for name in batch.ids[0::2]] == [n.partition("/")[0] for n in batch.ids[1::2]]
    # Two pairs of one picture share a row, whose picture stands in it once.
    (shared,) = (batch for batch in step.micro_batches if len(batch.ids) == 4)
    assert shared.segments is not None
    assert (shared.segments.amax(1).tolist(), len(shared.inputs["pixel_values"])) == ([4], 1)


def test_a_row_takes_so_many_pairs_as_are_asked_for(made: Made) -> None:
    assert made(questions_per_row=2).together == 2
    assert made(packing=False).together is None


def test_pairs_are_dropped_by_their_own_name_and_never_parted(made: Made, files: Path) -> None:
    def longer(rows: list[dict[str, Any]]) -> None:
        rows[1]["rejected"] = "blue and green " * 60

    rewritten(files / "pairs.json", longer)
    data = made(over_length="drop", max_length=60)
    train: Any = data.indexed("train")
    step = raised(data.collator()([train[i] for i in range(3)]))
    assert (step.dropped, step.weight) == (["1"], 2)
    assert sorted(step.ids) == ["0/chosen", "0/rejected", "2/chosen", "2/rejected"]
    with pytest.raises(RecordError, match=r"pairs\.json, record 1.*tokens"):
        made(max_length=60)


def test_validation_pairs_are_measured_and_questions_answered(made: Made, files: Path) -> None:
    of_pairs = made(val=str(files / "val.json"))
    assert of_pairs.validate_by == "loss"
    val = of_pairs.indexed("val")
    found = of_pairs.evaluation_collator("val")([val[i] for i in range(5)])
    assert isinstance(found, EvaluationBatch)
    assert found.supervised is not None
    assert (found.batches, found.ids, found.supervised.weight) == ([], [], 5)
    asked = made(val=str(files / "asked.json"))
    assert asked.validate_by == "answers"
    items = asked.evaluated("val")
    prompts = asked.evaluation_collator("val")([items[i] for i in range(4)])
    assert isinstance(prompts, EvaluationBatch)
    assert (len(prompts.ids), prompts.supervised) == (4, None)
    with pytest.raises(ConfigError, match="holds pairs, which are not answered"):
        made(val=str(files / "val.json"), validate_by="answers")
    with pytest.raises(ConfigError, match="there is no preference loss"):
        made(val=str(files / "asked.json"), validate_by="loss")


def test_ties_are_left_out_and_counted(
    made: Made, files: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def rate(rows: list[dict[str, Any]]) -> None:
        for k, row in enumerate(rows):
            answers = [row.pop("chosen"), row.pop("rejected")]
            ratings = ["5", "2"] if k % 3 else ["4", "4"]
            row["completions"] = [
                {"response": answer, "annotations": {"Helpfulness": {"Rating": rating}}}
                for answer, rating in zip(answers, ratings, strict=True)
            ]
            row["prompt"] = row.pop("question")

    path = rewritten(files / "pairs.json", rate)
    with caplog.at_level("INFO"):
        data = made()
    train = data.indexed("train")
    assert [train[i].id for i in range(len(train))] == ["1", "2", "4", "5", "7", "8", "10", "11"] == train.ids
    assert (train.skipped, len(train.image_keys or ())) == ((), 8)
    said = caplog.text + capsys.readouterr().err
    assert "no pair can be made of 4 of 12 records: their ratings tie, or fewer than two of their answers" in said
    assert "The first is record 0 (id '0'): its 2 completions are all rated 4." in said

    def spoil(rows: list[dict[str, Any]]) -> None:
        rows[2]["completions"][0]["response"] = 5.5

    rewritten(path, spoil)
    with pytest.raises(RecordError, match=r"record 2 \(id '2'\): the response of completion 0 is a float"):
        made()
    data = made(bad_records="skip", bad_records_most=1)
    train = data.indexed("train")
    assert train.ids == ["1", "4", "5", "7", "8", "10", "11"]
    assert [(one.index, one.record) for one in train.skipped] == [(2, "2 (id '2')")]

    def level(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["completions"][0] = {**row["completions"][1], "response": "a thing"}

    rewritten(path, level)
    with pytest.raises(RecordError, match="completions are all rated"):
        made()


def test_bad_pairs_are_refused_or_left_out(made: Made, files: Path) -> None:
    def spoil(rows: list[dict[str, Any]]) -> None:
        rows[4]["rejected"] = rows[4]["chosen"]
        rows[7]["image"] = "images/none.png"

    rewritten(files / "pairs.json", spoil)
    with pytest.raises(RecordError, match="2 of 12 records cannot be used"):
        made()
    train = made(bad_records="skip", bad_records_most=2).indexed("train")
    assert [(one.code, one.index) for one in train.skipped] == [("preference.identical", 4), ("image.missing", 7)]
    assert len(train) == 10


def test_ids_are_of_one_pair_in_an_evaluation_and_numbered_in_training(made: Made, files: Path) -> None:
    def same(rows: list[dict[str, Any]]) -> None:
        rows[3]["id"] = rows[0]["id"]

    rewritten(files / "pairs.json", same)
    rewritten(files / "val.json", same)
    train = made().indexed("train")
    pair = train[3]
    assert isinstance(pair, Preference)
    assert (pair.id, [side.id for side in pair.sides]) == ("0#2", ["0#2/chosen", "0#2/rejected"])
    with pytest.raises(RecordError, match="the id 'val0' is also that of"):
        made(val=str(files / "val.json"))


def test_settings_of_a_source_tell_pairs_from_questions(made: Made, files: Path) -> None:
    ignored = SourceSettings(path=str(files / "val.json"), ignore_keys=["rejected"], columns={"answer": "chosen"})
    assert made(val=ignored).validate_by == "answers"
    data = made(train=SourceSettings(path=str(files / "val.json"), limit=3), prompt="{question} Be brief.")
    assert len(data.indexed("train")) == 3
    assert data.indexed("train")[0].chosen.turns[0].text.endswith(" Be brief.")  # type: ignore[attr-defined]


def test_questions_are_not_trained_on_and_pairs_not_blind(made: Made, files: Path, tiny_llava: Path) -> None:
    with pytest.raises(RecordError, match="cannot be used"):
        made(train=str(files / "asked.json"))
    data = PreferenceDataModule(str(tiny_llava), val=SourceSettings(path=str(files / "val.json")), blind="blank")
    with pytest.raises(ConfigError, match=r"data\.blind is blank, and data\.val holds pairs"):
        data.setup("validate")


def test_a_stream_of_pairs_has_steps(made: Made, files: Path) -> None:
    data = made(train=SourceSettings(path=str(files / "pairs.json"), streaming=True))
    stream: Any = data.datasets["train"]
    step = raised(data.collator()(next(iter(stream.arranged(4, 2, 0, 0, 0, 1)))))
    assert step.weight == 4
