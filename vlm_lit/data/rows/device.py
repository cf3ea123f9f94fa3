"""Transfer of a batch's tensors to the model's device, in place."""

from __future__ import annotations

from dataclasses import fields

import torch

from vlm_lit.schema import MicroBatch, PromptBatch, mapped


def to_device(batch: MicroBatch | PromptBatch, device: torch.device) -> None:
    """Move a batch's tensors, in place: those in its fields, and in mappings and lists there, of any kind of batch."""
    for field in fields(batch):
        held = getattr(batch, field.name)
        setattr(batch, field.name, mapped(held, lambda tensor: tensor.to(device, non_blocking=True)))
