"""Tests of page-locked batches: torch's data loader reaches every tensor of ours, in every kind of batch."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import save
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.schema import ClassBatch, EvaluationBatch, StepBatch


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The tensors that were asked to be page-locked, which needs a GPU's driver; here each gives back itself."""
    asked: set[int] = set()

    def noted(tensor: Tensor, *_: object) -> Tensor:
        asked.add(id(tensor))
        return tensor

    monkeypatch.setattr(Tensor, "pin_memory", noted)
    return asked


def _batches(folder: Path) -> dict[str, object]:
    encoder, talks = cases.encoder(folder), cases.about_one_picture(1)
    steps = StepCollator(encoder, OverLengthPolicy(encoder, None, "error"), 8)(talks)
    asked = cases.prompts(encoder, talks, packing=True)
    known = ClassBatch(inputs={"pixel_values": torch.zeros(1)}, ids=["a"], targets=torch.zeros(1, 2))
    assert isinstance(steps, StepBatch)
    steps.micro_batches[0].features = [(torch.zeros(2), torch.ones(2))]
    return {
        "step": steps,
        "evaluation": EvaluationBatch(batches=asked, ids=[], supervised=steps),
        "classes": StepBatch(micro_batches=[known], weight=1),
    }


@pytest.mark.parametrize("kind", ["step", "evaluation", "classes"])
def test_every_tensor_is_page_locked(kind: str, locked: set[int], tmp_path: Path) -> None:
    batch = _batches(save("llava", tmp_path))[kind]
    found = [id(tensor) for tensor in _tensors(batch)]
    assert pin_memory(batch) is batch  # type: ignore[no-untyped-call]
    assert len(found) > 1
    assert set(found) == locked


@pytest.mark.gpu
def test_a_loaders_batches_are_page_locked(tmp_path: Path) -> None:
    batch = pin_memory(_batches(save("llava", tmp_path))["evaluation"])  # type: ignore[no-untyped-call]
    assert all(tensor.is_pinned() for tensor in _tensors(batch))
