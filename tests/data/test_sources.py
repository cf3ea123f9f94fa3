"""Tests of sources: tables and streams give the conversations of files, in an order set by the seed."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from torch.utils.data import DataLoader

from tests.support import tiny_models
from vlm_lit.cli import main
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation

Config = Callable[..., Path]


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    tiny_models.picture(seed).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file in ChartQA's columns: image, query, label (a list)."""
    rows = [
        {"image": {"bytes": png(i), "path": None}, "query": f"lamp {i}?", "label": ["red"], "kind": "human"}
        for i in range(23)
    ]
    path = tmp_path_factory.mktemp("table") / "train.parquet"
    datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_parquet(str(path))
    return path


def settings(table: Path, **more: object) -> SourceSettings:
    columns = {"question": "query", "answers": "label"}
    return SourceSettings(path=str(table), columns=columns, group_fields=["kind"], **more)  # type: ignore[arg-type]


def opened(source: SourceSettings) -> ConversationDataset | StreamedSteps[Conversation]:
    return open_source(source, prompt=None, system="be short", requires_answer=True, check_images=True)


def test_a_table_gives_conversations_by_index(table: Path) -> None:
    dataset = opened(settings(table))
    assert isinstance(dataset, ConversationDataset)
    assert len(dataset) == 23
    conversation = dataset[4]
    assert [turn.role for turn in conversation.turns] == ["system", "user", "assistant"]
    assert conversation.turns[1].text == "lamp 4?"
    assert conversation.references == ("red",)
    assert conversation.groups["kind"] == "human"
    assert conversation.images[0].data == png(4)


def streamed(table: Path, *, start: int = 0, workers: int = 0, rank: int = 0, world: int = 1) -> list[list[str]]:
    step_batches = opened(settings(table, streaming=True))
    assert isinstance(step_batches, StreamedSteps)
    arranged = step_batches.arranged(4, 9, seed=5, start=start, rank=rank, world=world)
    loader: DataLoader[list[Conversation]] = DataLoader(arranged, batch_size=None, num_workers=workers)
    return [[conversation.turns[1].text for conversation in step_batch] for step_batch in loader]


def test_a_stream_gives_whole_windows_in_a_seeded_order(table: Path) -> None:
    step_batches = streamed(table)
    assert [len(step_batch) for step_batch in step_batches] == [4] * 9
    assert step_batches == streamed(table)
    first_epoch = [text for step_batch in step_batches for text in step_batch][:23]
    assert sorted(first_epoch) == sorted(f"lamp {i}?" for i in range(23))
    assert first_epoch != [f"lamp {i}?" for i in range(23)]


def test_a_stream_does_not_depend_on_the_number_of_workers(table: Path) -> None:
    assert streamed(table, workers=2) == streamed(table)


def test_a_resumed_stream_goes_on_where_it_stopped(table: Path) -> None:
    assert streamed(table, start=5) == streamed(table)[5:]
    assert streamed(table, start=5, workers=2) == streamed(table)[5:]


def test_ranks_share_a_streams_windows(table: Path) -> None:
    shares = zip(streamed(table, rank=0, world=2), streamed(table, rank=1, world=2), strict=True)
    assert [sorted(a + b) for a, b in shares] == [sorted(step_batch) for step_batch in streamed(table)]


def test_a_stream_trains_when_its_length_is_given(
    config: Config, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = {"path": str(table), "columns": {"question": "query", "answers": "label"}, "streaming": True}
    path = str(config(data={"train": train, "val": None}))
    assert main(["fit", "--config", path]) == 2
    assert "set trainer.max_steps" in capsys.readouterr().err
    assert main(["fit", "--config", path, "--trainer.max_steps", "3"]) == 0


def test_a_broken_picture_in_a_table_is_named_before_training(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": b"<html>", "path": None}, "question": "what?", "answers": ["red"]}]
    path = tmp_path / "train.parquet"
    datasets.Dataset.from_list(rows).to_parquet(str(path))
    with pytest.raises(RecordError, match=r"train\.parquet, record 0"):
        open_source(SourceSettings(path=str(path)), prompt=None, system=None, requires_answer=True, check_images=True)
