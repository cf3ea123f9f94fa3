"""Last hidden states of a training batch, whatever stands in for pixels and however rows are shared.

B = rows, L = tokens, D = hidden width, S = supervised positions.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from vlm_lit.models.attention import packed_inputs, seen_as_whole
from vlm_lit.models.families import Family
from vlm_lit.models.joined_rows import joinable, joined_inputs
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
    backbone, inputs = family.backbone_of(base), _looked_at(base, family, batch)
    if batch.segments is not None:
        inputs = packed_inputs(backbone, inputs, batch.segments, family)
    else:
        inputs = seen_as_whole(backbone, inputs, family)
    hidden: Tensor = backbone(**inputs, use_cache=False).last_hidden_state
    return hidden


def supervised_states(base: nn.Module, family: Family, batch: TokenBatch) -> Tensor:
    """The last hidden states [S, D] of the positions whose next token is supervised, row by row.

    Where they are few, the last layer is computed for them alone. Rows are joined where that saves padding. The
    arguments are those of `hidden_states`.
    """
    joins = joinable(base, family, batch.inputs)
    places = _read_places(_supervised(batch, joins=joins))
    with read_at(base, family, places):
        if joins:
            backbone = family.backbone_of(base)
            inputs = joined_inputs(backbone, _looked_at(base, family, batch), batch.segments, family)
            hidden: Tensor = backbone(**inputs, use_cache=False).last_hidden_state
        else:
            hidden = hidden_states(base, family, batch)
    supervised = _supervised(batch, joins=joins)  # made anew: the forward pass needs the memory more
    if places is None or hidden.shape[1] != places.shape[1]:
        return hidden[supervised]
    return hidden[torch.arange(hidden.shape[1], device=hidden.device) < supervised.sum(1, keepdim=True)]


def _looked_at(base: nn.Module, family: Family, batch: TokenBatch) -> dict[str, Any]:
    """A batch's inputs, its features in place of pixels where it has them."""
    if batch.features is None:
        return dict(batch.inputs)
    return with_features(base, family, batch.inputs, batch.features)


def _supervised(batch: TokenBatch, *, joins: bool) -> Tensor:
    """Whether the next token of a position is supervised [B, L] (bool), or [1, T] where rows are joined."""
    supervised = nn.functional.pad(batch.labels[:, 1:] != IGNORE_INDEX, (0, 1))
    return supervised[batch.inputs["attention_mask"].bool()][None] if joins else supervised


def _read_places(supervised: Tensor) -> Tensor | None:
    """The places [B, S] of the supervised positions [B, L] (bool), S the most of a row; None where many are.

    A row that has fewer is filled with its first other places, whose states nobody reads.
    """
    most = int(supervised.sum(1).max())
    if not 0 < most <= FEW * supervised.shape[1]:
        return None
    return supervised.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most].contiguous()
