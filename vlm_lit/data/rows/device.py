"""Transfer of a batch's tensors to the model's device, in place."""

from __future__ import annotations

import torch

from vlm_lit.schema import PromptBatch, TokenBatch


def to_device(batch: TokenBatch | PromptBatch, device: torch.device) -> None:
    """Move a batch's tensors, in place."""
    batch.inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.inputs.items()}
    if batch.features is not None:
        batch.features = [tuple(t.to(device, non_blocking=True) for t in image) for image in batch.features]
    if isinstance(batch, TokenBatch):
        batch.labels = batch.labels.to(device, non_blocking=True)
    if batch.segments is not None:
        batch.segments = batch.segments.to(device, non_blocking=True)
