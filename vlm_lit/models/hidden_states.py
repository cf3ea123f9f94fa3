"""Last hidden states of a training batch, whatever stands in for pixels and however rows are shared.

B = rows, L = tokens, D = hidden width, S = supervised positions.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from vlm_lit.models.attention import packed_inputs, seen_as_whole
from vlm_lit.models.families import Family
from vlm_lit.models.last_layer import read_at
from vlm_lit.models.vision_features import with_features
from vlm_lit.schema import IGNORE_INDEX, TokenBatch

FEW: Final = 0.5
"""The largest share of a row's places at which the last layer is asked for them alone."""


def hidden_states(base: nn.Module, family: Family, batch: TokenBatch) -> Tensor:
    """The last hidden states [B, L, D]; the head is not run.

    Args:
        base: the model without its PEFT shell.
        family: its facts.
        batch: its features are used where it has them, its segments where questions share rows.
    """
    backbone, inputs = family.backbone_of(base), batch.inputs
    if batch.features is not None:
        inputs = with_features(base, family, inputs, batch.features)
    if batch.segments is not None:
        inputs = packed_inputs(backbone, inputs, batch.segments, family)
    else:
        inputs = seen_as_whole(backbone, inputs, family)
    hidden: Tensor = backbone(**inputs, use_cache=False).last_hidden_state
    return hidden


def supervised_states(base: nn.Module, family: Family, batch: TokenBatch) -> Tensor:
    """The last hidden states [S, D] of the positions whose next token is supervised, row by row.

    Where they are few, the last layer is computed for them alone. The arguments are those of `hidden_states`.
    """
    supervised = batch.labels[:, 1:] != IGNORE_INDEX
    counts = supervised.sum(1)
    most = int(counts.max())
    # A row that has fewer is filled with its first places, whose states nobody reads.
    places = supervised.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    few = 0 < most <= FEW * batch.labels.shape[1]
    with read_at(base, family, places if few else None):
        hidden = hidden_states(base, family, batch)
    if few and hidden.shape[1] == most:
        return hidden[torch.arange(most, device=counts.device) < counts[:, None]]
    return hidden[:, :-1][supervised]
