"""Summed cross-entropy over the supervised tokens of a batch, the head run on those alone.

B = rows, L = tokens, D = hidden width, S = supervised positions, C = positions in a chunk, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vlm_lit.schema import IGNORE_INDEX

CHUNK: Final = 1024
"""Positions whose logits are held at once: 128 MiB in float32 with a vocabulary of 32,000."""


def supervised_cross_entropy(
    hidden: Tensor, labels_BL: Tensor, head: Callable[[Tensor], Tensor], *, chunk: int = CHUNK
) -> Tensor:
    """Sum of the cross-entropy over supervised positions (a scalar, float32, in nats).

    The sum, not the mean: the caller divides by the tokens of the whole step, so that the value does not depend on
    how the step was cut into micro-batches. `[B, L, V]` logits never exist, and of `[S, V]` only a chunk at a time:
    with more than one, each chunk's logits are computed again in the backward pass instead of being kept.

    Args:
        hidden: last hidden states, of all positions [B, L, D] or of the supervised ones alone [S, D], row by row.
        labels_BL: IGNORE_INDEX wherever nothing is learned.
        head: makes logits of hidden states.
        chunk: positions whose logits are held at once.
    """
    next_BL = labels_BL[:, 1:]
    supervised = next_BL != IGNORE_INDEX
    hidden_SD = hidden if hidden.dim() == 2 else hidden[:, :-1][supervised]
    return chunked_cross_entropy(hidden_SD, next_BL[supervised], head, chunk=chunk)


def chunked_cross_entropy(
    hidden_SD: Tensor, targets_S: Tensor, head: Callable[[Tensor], Tensor], *, chunk: int = CHUNK
) -> Tensor:
    """The same of positions that are all supervised, `chunk` of them at a time."""
    if len(targets_S) <= chunk:
        return _summed(hidden_SD, targets_S, head)
    pieces = zip(hidden_SD.split(chunk), targets_S.split(chunk), strict=True)  # type: ignore[no-untyped-call]
    losses = [checkpoint(_summed, hidden, targets, head, use_reentrant=False) for hidden, targets in pieces]
    return torch.stack(losses).sum()


def _summed(hidden_CD: Tensor, targets_C: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    logits_CV = head(hidden_CD)
    with torch.autocast(logits_CV.device.type, enabled=False):
        return F.cross_entropy(logits_CV.float(), targets_C, reduction="sum")
