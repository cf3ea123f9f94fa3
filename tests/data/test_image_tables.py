"""Tests of images in another table: each record shows the one it names, whoever reads the table."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from vlm_lit.data.images.images import load_images
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.image_tables import ImageTableSettings
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation

KEYS = ("n7", "n2", "n5")
KINDS = ("parquet", "arrow", "saved", "jsonl")


def png(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40 + i, 32), "red").save(buffer, "PNG")
    return buffer.getvalue()


def write_images(folder: Path, kind: str = "parquet", keys: tuple[Any, ...] = KEYS) -> Path:
    """Images 40, 41, ... wide, under these keys; files of their own beside JSON."""
    folder.mkdir()
    if kind == "jsonl":
        for i in range(len(keys)):
            (folder / f"{i}.png").write_bytes(png(i))
        lines = [json.dumps({"id": key, "image": f"{i}.png"}) + "\n" for i, key in enumerate(keys)]
        (folder / "images.jsonl").write_text("".join(lines))
        return folder / "images.jsonl"
    rows = [{"id": key, "image": {"bytes": png(i), "path": None}} for i, key in enumerate(keys)]
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    if kind == "parquet":
        table.to_parquet(str(folder / "images.parquet"))
        return folder / "images.parquet"
    table.save_to_disk(str(folder / "saved"))
    return next((folder / "saved").glob("*.arrow")) if kind == "arrow" else folder / "saved"


def write_questions(folder: Path, **changes: Any) -> Path:
    """A question about each image, in another order than theirs; the first one with these fields changed."""
    rows = [{"id": f"q{key}", "imageId": key, "question": "What?", "answer": "red"} for key in sorted(KEYS)]
    rows[0] = {name: value for name, value in (rows[0] | changes).items() if value is not ...}
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def opened(
    questions: Path, images: Path, *, checks: bool = True, **more: Any
) -> ConversationDataset | StreamedSteps[Conversation]:
    table = {"path": str(images), "image_key": "imageId"} | {k: more.pop(k) for k in ("key", "column") if k in more}
    source = SourceSettings(path=str(questions), images_from=ImageTableSettings(**table), **more)
    return open_source(source, prompt=None, system=None, requires_answer=True, check_images=checks)


def widths(conversations: list[Conversation]) -> dict[str, int]:
    return {c.id: load_images(c)[0].width for c in conversations}


EXPECTED = {"qn2": 41, "qn5": 42, "qn7": 40}


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_shows_the_image_it_names(kind: str, tmp_path: Path) -> None:
    dataset = opened(write_questions(tmp_path), write_images(tmp_path / "images", kind))
    assert isinstance(dataset, ConversationDataset)
    assert widths([dataset[i] for i in range(len(dataset))]) == EXPECTED


def test_workers_read_the_table_too(tmp_path: Path) -> None:
    dataset = opened(write_questions(tmp_path), write_images(tmp_path / "images"))
    assert isinstance(dataset, ConversationDataset)
    batches: DataLoader[Conversation] = DataLoader(dataset, batch_size=None, num_workers=2)
    assert widths(list(batches)) == EXPECTED
    # Where processes are started anew, they are handed a copy.
    copied = pickle.loads(pickle.dumps(dataset))
    assert widths([copied[i] for i in range(len(copied))]) == EXPECTED


def test_a_stream_of_records_is_joined(tmp_path: Path) -> None:
    stream = opened(write_questions(tmp_path), write_images(tmp_path / "images"), streaming=True)
    assert isinstance(stream, StreamedSteps)
    step_batches = list(stream.arranged(3, 1, seed=1, start=0, rank=0, world=1))
    assert widths(step_batches[0]) == EXPECTED


def test_the_keys_are_read_without_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions, images = write_questions(tmp_path), write_images(tmp_path / "images")
    read: list[tuple[tuple[str, ...], object]] = []
    real = datasets.Dataset._getitem

    def noted(table: datasets.Dataset, key: Any, **kwargs: Any) -> Any:
        read.append((tuple(table.column_names), key))
        return real(table, key, **kwargs)

    monkeypatch.setattr(datasets.Dataset, "_getitem", noted)
    dataset = opened(questions, images, checks=False)
    assert isinstance(dataset, ConversationDataset)
    # Opening also looks at each question, and with it at its own image.
    assert [key for columns, key in read if "image" in columns] == [1, 2, 0]
    assert [columns for columns, key in read if isinstance(key, slice)] == [("id",)]
    assert dataset[0].images[0].data == png(1)


def test_whole_numbers_and_text_name_the_same_image(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", keys=(7, 2, 5))
    path = tmp_path / "questions.jsonl"
    path.write_text('{"imageId": "2", "question": "What?", "answer": "red"}\n')
    dataset = opened(path, images)
    assert isinstance(dataset, ConversationDataset)
    assert dataset[0].images[0].data == png(1)


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"imageId": "n9"}, "missing", r"record 0 \(id 'qn2'\): imageId is 'n9', which is no id in .*images\.parquet"),
        ({"imageId": None}, "missing", "imageId is None"),
        ({"imageId": True}, "missing", "imageId is True"),
        ({"imageId": ...}, "no_key", "no field 'imageId'; there are 'id', 'question', 'answer'"),
        ({"image": "a.png"}, "ambiguous", "it has image although images_from names a table"),
    ],
)
def test_a_record_without_its_image_is_named(changes: dict[str, Any], code: str, says: str, tmp_path: Path) -> None:
    questions, images = write_questions(tmp_path, **changes), write_images(tmp_path / "images")
    with pytest.raises(RecordError, match=says) as caught:
        opened(questions, images, checks=False)
    assert caught.value.code == f"image_table.{code}"
    assert caught.value.remedy
    assert str(caught.value.file) == str(questions)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("keys", "says"), [(("a", "b", "a"), "'a' is also that of record 0"), ((None, "b"), "id is None")]
)
def test_a_key_that_is_not_one_images_own_is_named(keys: tuple[Any, ...], says: str, kind: str, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", kind, keys=keys)
    with pytest.raises(RecordError, match=says) as caught:
        opened(write_questions(tmp_path), images)
    assert caught.value.code == "image_table.key"


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    questions, images = write_questions(tmp_path), write_images(tmp_path / "images")
    with pytest.raises(RecordError, match="no column 'name'; there are 'id', 'image'"):
        opened(questions, images, key="name")
    with pytest.raises(RecordError, match="its image 'n2' has no 'picture' in"):
        opened(questions, images, column="picture")


def test_a_path_in_the_table_may_not_leave_the_tables_folder(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", "jsonl")
    (tmp_path / "0.png").write_bytes(png(9))
    images.write_text(images.read_text().replace('"0.png"', '"../0.png"'))
    with pytest.raises(RecordError, match="leads outside"):
        opened(write_questions(tmp_path), images)


def test_without_a_table_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "What?", "answer": "red"}\n')
    dataset = open_source(
        SourceSettings(path=str(path)), prompt=None, system=None, requires_answer=True, check_images=True
    )
    assert isinstance(dataset, ConversationDataset)
    assert replace(dataset[0], file="").images == ()
