"""Tests of distinct images: each found once, the same in workers, named where it cannot be used."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import family_cases as cases
from tests.support import small_data, stored
from vlm_lit.data.distinct_images import distinct_images, processed_images
from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.rank_share import RankShare
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.errors import RecordError


@pytest.fixture
def dataset(tmp_path: Path) -> ConversationDataset:
    """Four conversations about three pictures, one of which has two names."""
    path = small_data.write_conversations(tmp_path, 4)
    shutil.copy(tmp_path / "images" / "0.png", tmp_path / "images" / "3.png")
    opened = open_source(
        SourceSettings(path=str(path)), prompt=None, system=None, requires_answer=True, check_images=False
    )
    assert isinstance(opened, ConversationDataset)
    return opened


def test_equal_bytes_are_one_image_whatever_their_name(dataset: ConversationDataset, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store", stored.IDENTITY)
    found = distinct_images([dataset, dataset], store)
    assert len(found) == 3
    for key, shown in found.items():
        assert len(shown.images) == 1
        assert store.key(shown.images[0]) == key


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_look_at_images_as_this_process_does(
    dataset: ConversationDataset, tmp_path: Path, tiny_llava: Path, workers: int
) -> None:
    images = distinct_images([dataset], FeatureStore(tmp_path / "store", stored.IDENTITY))
    batches = list(processed_images(cases.encoder(tiny_llava).processor, images, together=2, workers=workers))
    assert [len(batch) for batch in batches] == [2, 1]
    assert [look.key for batch in batches for look in batch] == list(images)
    encoder = cases.encoder(tiny_llava)
    for look in (look for batch in batches for look in batch):
        expected = cases.encode(encoder, [images[look.key]])
        assert torch.equal(look.inputs["pixel_values"], expected.inputs["pixel_values"])
        assert look.image.replacement == "<image>" * 4


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_used_is_named_with_its_record(
    dataset: ConversationDataset, tmp_path: Path, tiny_llava: Path, workers: int
) -> None:
    store = FeatureStore(tmp_path / "store", stored.IDENTITY)
    picture = tmp_path / "images" / "1.png"
    picture.write_bytes(picture.read_bytes()[:-200])
    images = distinct_images([dataset], store)
    with pytest.raises(RecordError, match=r"data\.json, record 1 \(id '1'\).*1\.png: the file is"):
        list(processed_images(cases.encoder(tiny_llava).processor, images, together=2, workers=workers))
    picture.unlink()
    with pytest.raises(RecordError, match=r"data\.json, record 1 \(id '1'\).*1\.png: no such file"):
        distinct_images([dataset], FeatureStore(tmp_path / "store", stored.IDENTITY))


def test_processes_that_look_together_find_what_one_finds(dataset: ConversationDataset, tmp_path: Path) -> None:
    one, two = (FeatureStore(tmp_path / "store", stored.IDENTITY) for _ in range(2))
    expected = distinct_images([dataset, dataset], one)
    told: list[Any] = []

    def tell(own: Any) -> list[Any]:
        told.append(own)
        return told

    for rank in range(2):  # one after the other, each told what those before it have found
        distinct_images([dataset, dataset], two, RankShare(rank, 2), tell)
    assert all(len(part.files) < 4 for part in told)
    found = distinct_images([dataset, dataset], two, RankShare(0, 2), lambda _: told)
    assert list(found) == list(expected)
    assert {key: shown.images for key, shown in found.items()} == {k: shown.images for k, shown in expected.items()}
