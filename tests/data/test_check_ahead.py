"""Tests of the check ahead: what it finds, what it leaves out, and what it keeps for the next start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from PIL import Image

from tests.support import small_data
from vlm_lit.data.checking import ahead, in_processes, pictures
from vlm_lit.data.checking.examined import Examiner
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.data.records.conversation_dataset import ConversationDataset
from vlm_lit.errors import ConfigError, RecordError

Rows = list[dict[str, Any]]
Opened = Callable[..., ConversationDataset]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Ten conversations, their pictures beside the test's data.json."""
    found: Rows = json.loads(small_data.write_conversations(tmp_path, 10).read_text())
    return found


@pytest.fixture
def opened(rows: Rows, tmp_path: Path, tiny_llava: Path) -> Opened:
    """Writes the rows as they are by then, and opens them as a split of a data module with some settings."""

    def open_split(split: str = "train", **settings: Any) -> ConversationDataset:
        (tmp_path / "data.json").write_text(json.dumps(rows))
        given = {"model_id": str(tiny_llava), split: str(tmp_path / "data.json"), **settings}
        data = ConversationDataModule(**given)
        data.setup({"train": "fit", "val": "validate", "test": "test", "predict": "predict"}[split])
        dataset = data.datasets[split]
        assert isinstance(dataset, ConversationDataset)
        return dataset

    return open_split


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Ten records count as many: they are checked in processes, and what was found is kept. Returns the cache."""
    monkeypatch.setenv("VLM_LIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(in_processes, "_CHUNK", 3)
    for module in (in_processes, ahead, pictures):
        monkeypatch.setattr(module, "FEW", 1)
    return tmp_path / "cache" / "checks"


def break_some(rows: Rows, folder: Path) -> None:
    """Records 1 and 4 lack their picture, 6 has a cut one, 8 begins with the assistant."""
    rows[1]["image"] = rows[4]["image"] = "images/gone.png"
    path = folder / rows[6]["image"]
    path.write_bytes(path.read_bytes()[:60])
    del rows[8]["conversations"][0]


def codes(dataset: ConversationDataset) -> dict[int, str]:
    return {one.index: one.code for one in dataset.skipped}


BROKEN = {1: "image.missing", 4: "image.missing", 6: "image.truncated", 8: "conversation.first_turn"}


def test_the_first_of_each_kind_is_named_with_a_count(opened: Opened, rows: Rows, tmp_path: Path) -> None:
    break_some(rows, tmp_path)
    with pytest.raises(RecordError) as found:
        opened()
    said = str(found.value)
    assert said.startswith(f"{tmp_path / 'data.json'}: 4 of 10 records cannot be used. image.missing (2), the first: ")
    assert "record 1 (id '1'): image 1 of 1" in said
    assert "image.truncated (1), the first: record 6 (id '6'): image 1 of 1" in said
    assert "record 4" not in said


def test_skipping_leaves_out_these_records_and_no_others(opened: Opened, rows: Rows, tmp_path: Path) -> None:
    break_some(rows, tmp_path)
    dataset = opened(bad_records="skip", bad_records_most=4)
    assert codes(dataset) == BROKEN
    good = [str(k) for k in range(10) if k not in BROKEN]
    assert [conversation.id for conversation in (dataset[i] for i in range(len(dataset)))] == good
    rows[:] = [row for k, row in enumerate(rows) if k not in BROKEN]
    without = opened()
    assert (dataset.ids, dataset.image_keys, dataset.answers) == (without.ids, without.image_keys, without.answers)
    assert dataset.findings.records == len(without) == 6


def test_answers_that_spell_a_token_of_the_checkpoint_are_counted(opened: Opened, rows: Rows, many: Path) -> None:
    for k, words in ((2, "red</s> or <pad></s>"), (5, "</s>")):
        rows[k]["conversations"][1]["value"] = words
    rows[7]["conversations"][0]["value"] += "<s>"  # a user's words are not learned
    said = (
        "answers hold strings that this checkpoint has as tokens, and they are learned as letters: "
        "</s> (2 of 10), <pad> (1 of 10)."
    )
    for _ in range(2):  # the second time from what is kept of the first
        assert sum(line.endswith(said) for line in opened().findings.lines()) == 1
    assert len(list(many.glob("records-*.json"))) == 1
    assert not any("letters" in line for line in opened("test").findings.lines())


@pytest.mark.parametrize(("most", "allowed"), [(3, False), (4, True), (0.3, False), (0.31, True), (0, False)])
def test_the_budget_is_a_number_or_a_share_rounded_up(
    most: float, allowed: bool, opened: Opened, rows: Rows, tmp_path: Path
) -> None:
    break_some(rows, tmp_path)
    if allowed:
        assert len(opened(bad_records="skip", bad_records_most=most)) == 6
        return
    with pytest.raises(RecordError, match=r"4 of 10 records cannot be used.*bad_records_most: "):
        opened(bad_records="skip", bad_records_most=most)


def test_a_run_without_any_record_is_refused(opened: Opened, rows: Rows) -> None:
    for row in rows:
        row["image"] = "gone.png"
    with pytest.raises(RecordError, match="10 of 10 records cannot be used"):
        opened(bad_records="skip", bad_records_most=10)


@pytest.mark.parametrize("settings", [{"bad_records": "drop"}, {"bad_records_most": -1}, {"bad_records_most": 2.5}])
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], opened: Opened) -> None:
    with pytest.raises(ConfigError, match="bad_records"):
        opened(**settings)


def test_a_stream_leaves_nothing_out(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a stream is met one by one"):
        opened(train={"path": str(tmp_path / "data.json"), "streaming": True}, bad_records="skip")


def test_mixing_weights_count_what_is_left(opened: Opened, rows: Rows, tmp_path: Path) -> None:
    del rows[3]["conversations"][0]
    paths = [str(tmp_path / "data.json")] * 2
    with_bad = opened(train={"path": paths, "weights": [1, 3]}, bad_records="skip", bad_records_most=2)
    assert with_bad.mixture is not None
    assert with_bad.mixture.sizes == (9, 9)


def test_a_conversation_that_is_too_long_without_its_images_is_found(opened: Opened, rows: Rows) -> None:
    rows[5]["conversations"][0]["value"] += " lamp" * 3000
    with pytest.raises(RecordError) as found:
        opened()
    assert found.value.code == "conversation.too_long"
    assert found.value.record == "5 (id '5')"
    assert len(opened(over_length="drop")) == 10, "a policy says what becomes of it"
    with pytest.raises(RecordError):
        opened("test", over_length="drop")


def test_what_the_template_refuses_is_found(opened: Opened, rows: Rows, tiny_llava: Path, tmp_path: Path) -> None:
    changed = tmp_path / "checkpoint"
    changed.mkdir()
    for file in tiny_llava.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    template = changed / "chat_template.jinja"
    refuse = "{% if 'zebra' in messages|string %}{{ raise_exception('no zebras') }}{% endif %}"
    template.write_text(refuse + template.read_text())
    rows[7]["conversations"][2]["value"] = "a zebra?"
    with pytest.raises(RecordError, match="no zebras") as found:
        opened(model_id=str(changed))
    assert (found.value.code, found.value.record) == ("template.refused", "7 (id '7')")


def test_an_evaluation_leaves_out_a_repeated_id(opened: Opened, rows: Rows) -> None:
    rows[9]["id"] = rows[2]["id"]
    with pytest.raises(RecordError, match="the id '2' is also that of") as found:
        opened("test")
    assert found.value.code == "conversation.duplicate_id"
    assert codes(opened("test", bad_records="skip")) == {9: "conversation.duplicate_id"}
    assert not codes(opened(bad_records="skip")), "training numbers them"


def test_processes_find_what_one_finds(
    opened: Opened, rows: Rows, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    break_some(rows, tmp_path)
    alone = opened(bad_records="skip", bad_records_most=4)
    request.getfixturevalue("many")
    state = torch.get_rng_state()
    together = opened(bad_records="skip", bad_records_most=4)
    assert torch.equal(torch.get_rng_state(), state), "the run's own draws are what its seed says"
    again = opened(bad_records="skip", bad_records_most=4)
    for other in (together, again):
        assert other.skipped == alone.skipped
        assert (other.ids, other.image_keys, other.answers) == (alone.ids, alone.image_keys, alone.answers)
        assert list(other.findings.lines()) == list(alone.findings.lines())


def test_a_second_start_reads_what_the_first_has_found(
    opened: Opened, rows: Rows, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows[2]["unknown"] = "key"
    first = opened()
    assert "unknown" in " ".join(first.findings.lines())

    def never(*_: object) -> None:
        raise AssertionError("examined again")

    monkeypatch.setattr(Examiner, "__call__", never)
    monkeypatch.setattr(pictures, "examine", never)
    second = opened()
    assert second.ids == [str(k) for k in range(10)]
    assert list(second.findings.lines()) == list(first.findings.lines())
    (tmp_path / rows[3]["image"]).unlink()
    monkeypatch.undo()
    monkeypatch.setenv("VLM_LIT_CACHE", str(many.parent))
    monkeypatch.setattr(ahead, "FEW", 1)
    with pytest.raises(RecordError) as found:
        opened()
    assert (found.value.code, found.value.record) == ("image.missing", "3 (id '3')")


@pytest.mark.usefixtures("many")
def test_whatever_it_follows_from_makes_a_new_check(opened: Opened, rows: Rows, tmp_path: Path) -> None:
    assert not opened().skipped
    with pytest.raises(RecordError, match="max_length is 8"):
        opened(max_length=8)
    path = tmp_path / rows[0]["image"]
    content = path.read_bytes()
    path.write_bytes(content[:60])
    with pytest.raises(RecordError, match=r"record 0 .*the file is"):
        opened()
    path.write_bytes(content)
    assert not opened().skipped
    rows[0]["conversations"][0]["from"] = "robot"
    with pytest.raises(RecordError, match="robot"):
        opened()


@pytest.mark.usefixtures("many")
def test_a_folder_that_cannot_be_written_costs_the_memory_alone(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLM_LIT_CACHE", str(tmp_path / "file"))
    assert len(opened()) == 10


def test_a_table_is_known_by_its_files(opened: Opened, many: Path, tmp_path: Path) -> None:
    def write(answer: str) -> None:
        content = {"question": ["what?"] * 4, "answer": [answer] * 4, "id": ["a", "b", "c", "d"]}
        datasets.Dataset.from_dict(content).to_parquet(tmp_path / "table.parquet")

    write("red")
    for _ in range(2):
        assert opened(train=str(tmp_path / "table.parquet")).ids == ["a", "b", "c", "d"]
        assert len(list(many.glob("records-*.json"))) == 1
    write("")
    with pytest.raises(RecordError, match=r"4 of 4 records cannot be used. conversation.blank_answer \(4\)"):
        opened(train=str(tmp_path / "table.parquet"))


def test_a_broken_cache_is_made_anew(opened: Opened, many: Path) -> None:
    first = opened()
    for file in many.glob("*.json"):
        file.write_text("[1, 2")
    assert opened().ids == first.ids


@pytest.mark.usefixtures("many")
def test_how_long_items_are_is_known_kept_and_looked_at_again_where_a_picture_changes(
    opened: Opened, rows: Rows, tmp_path: Path, tiny_llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del rows[3]["image"], rows[3]["image_id"]
    rows[3]["conversations"][0]["value"] = "what colour is the sky?"
    dataset = opened()
    sizes = dataset.sizes
    assert sizes is not None
    assert [size.images for size in sizes] == [() if k == 3 else ((40, 32),) for k in range(10)]
    encoder = ConversationDataModule(str(tiny_llava)).encoder
    assert [size.words for size in sizes] == encoder.text_lengths([dataset[k] for k in range(10)])
    monkeypatch.setattr(Examiner, "__call__", None)  # what was found of the words is read
    Image.new("RGB", (64, 48)).save(tmp_path / rows[0]["image"])
    again = opened().sizes
    assert again is not None
    assert again[0].images == ((64, 48),)
    assert again[1:] == sizes[1:]


def test_the_sizes_of_records_that_are_left_out_are_left_out_too(opened: Opened, rows: Rows, tmp_path: Path) -> None:
    break_some(rows, tmp_path)
    Image.new("RGB", (64, 48)).save(tmp_path / rows[2]["image"])
    sizes = opened(bad_records="skip", bad_records_most=4).sizes
    assert sizes is not None
    assert [size.images for size in sizes] == [((64, 48),) if k == 1 else ((40, 32),) for k in range(6)]
