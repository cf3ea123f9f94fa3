"""Transfer of a batch's tensors to the model's device, in place."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from vlm_lit.schema import MicroBatch, PromptBatch


def to_device(batch: MicroBatch | PromptBatch, device: torch.device) -> None:
    """Move a batch's tensors, in place: those in its fields, and in mappings and lists there, of any kind of batch."""
    for field in fields(batch):
        setattr(batch, field.name, _moved(getattr(batch, field.name), device))


def _moved(value: Any, device: torch.device) -> Any:  # noqa: ANN401 - any field of a batch
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: _moved(one, device) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(one, device) for one in value)
    return value
