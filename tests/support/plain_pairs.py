"""Log-probabilities of answers by a plain model, one conversation at a time, from all logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from tests.support import family_cases as cases
from vlm_lit.schema import IGNORE_INDEX, Conversation, TokenBatch

Batch = TypeVar("Batch", bound=TokenBatch)


def doubled(batch: Batch) -> Batch:
    """The batch with its pixels in float64."""
    return replace(batch, inputs={n: v.double() if v.is_floating_point() else v for n, v in batch.inputs.items()})


def plain_log_prob(model: nn.Module, folder: Path, talk: Conversation) -> tuple[Tensor, int]:
    """An answer's log-probability from all logits of its own unpadded row, and its tokens."""
    row = doubled(cases.encode(cases.encoder(folder), [talk]))
    log_probs = model(**row.inputs).logits[0, :-1].double().log_softmax(-1)
    targets = row.labels[0, 1:]
    said = targets != IGNORE_INDEX
    return log_probs[said].gather(1, targets[said, None]).sum(), int(said.sum())
