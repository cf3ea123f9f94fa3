"""Attention mask and positions of packed rows, in which several questions share one image.

A packed row is a prefix (system message, image) and behind it a segment a question. A token sees the prefix and its
own segment up to itself; each segment's positions go on where the prefix ends. To a causal model the questions then
are what they would be in rows of their own.

B = rows, L = tokens. `segments` [B, L] int64: 0 in the prefix, 1, 2, ... in the segments, and in the padding as well 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from transformers import PreTrainedConfig, PreTrainedModel

from vlm_lit.models.causal_attention import mark_causal
from vlm_lit.models.families import Family

_ALIGNED: Final = 16
_MASKED: Final = ("sdpa", "eager")
"""The kinds of attention that take a mask of a row's own."""


def unpackable(model: PreTrainedModel, family: Family) -> str | None:
    """Why questions cannot share a row in this model; None where they can."""
    return unpackable_by(family, model.config, model.config.get_text_config()._attn_implementation)


def unpackable_by(family: Family, config: PreTrainedConfig, implementation: str) -> str | None:
    """Why questions cannot share a row in a model of this family with this attention; None where they can."""
    if family.unpackable is not None:
        return family.unpackable
    window = window_of(config)
    if window is not None:
        return f"its tokens see the {window:,} before them only, which the mask of a packed row does not say"
    if implementation in _MASKED:
        return None
    return f"attention: {implementation} takes no mask of a row's own; use sdpa"


def readable_once(model: PreTrainedModel, family: Family) -> bool:
    """Whether left-padded prompts can be read once, and what is said behind them appended (`padded_rows.py`).

    It takes a mask and positions of our own for what is said; a model with multimodal positions keeps those of its last
    prompts itself, and one whose layers see a window must take a mask for them.
    """
    return (
        family.positions == "row"
        and model.config.get_text_config()._attn_implementation in _MASKED
        and (family.masks_by_kind or window_of(model.config) is None)
    )


def window_of(config: PreTrainedConfig) -> int | None:
    """How many tokens a token sees before it; None where it sees all of the longest row that the model takes."""
    text = config.get_text_config()
    window, kinds = getattr(text, "sliding_window", None), getattr(text, "layer_types", None)
    if window is None or (kinds is not None and "sliding_attention" not in kinds):
        return None
    return window if window < getattr(text, "max_position_embeddings", math.inf) else None


def packed_inputs(
    model: nn.Module, inputs: Mapping[str, Tensor], segments: Tensor, family: Family
) -> dict[str, Tensor]:
    """The model's keyword arguments for packed rows: mask and positions put in for `attention_mask`.

    Args:
        model: the model without its head.
        inputs: as the processor made them, `input_ids` and `attention_mask` [B, L] among them.
        segments: which segment each token belongs to [B, L].
        family: how positions are counted.
    """
    mask = mark_causal(addable(visible(segments, inputs["attention_mask"].bool())[:, None], model))
    return {**inputs, "attention_mask": mask, "position_ids": positions_of(model, inputs, segments, family)}


def positions_of(model: nn.Module, inputs: Mapping[str, Tensor], segments: Tensor, family: Family) -> Tensor:
    """The positions of packed rows [B, L], or [4, B, L] for a family with multimodal ones; plain rows have segments of
    nothing but zeros. The arguments are those of `packed_inputs`."""
    shift = _shift(segments, inputs["attention_mask"].bool())
    places = torch.arange(segments.shape[1], device=segments.device) - shift
    return places if family.positions == "row" else _rotary_positions(model, inputs, shift, places)


def seen_as_whole(backbone: nn.Module, inputs: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """The inputs of plain rows, their padding on the right no longer marked where a causal model needs no mask of it.

    No token sees what stands behind it, so padding changes no other token; what it becomes itself nobody reads. Without
    a mask the model attends by its causal kernel. On other devices than a CPU, where that has not been measured, and
    with kernels that leave padding out, the mask stays.
    """
    mask = inputs["attention_mask"]
    if not causal_on_cpu(backbone, mask, family) or not bool(mask[:, 0].all()) or bool(mask.all()):
        return dict(inputs)
    return {**inputs, "attention_mask": torch.ones_like(mask)}


def causal_on_cpu(model: nn.Module, mask: Tensor, family: Family) -> bool:
    """Whether a model attends causally by SDPA on a CPU, to a batch that is there.

    Args:
        model: it, or what is in it without its head.
        mask: which tokens are no padding [B, L].
        family: its facts.
    """
    config = model.config
    assert isinstance(config, PreTrainedConfig)
    sdpa = config.get_text_config()._attn_implementation == "sdpa"
    there = not isinstance(mask, FakeTensor)  # of an estimate, whose rows are full
    return sdpa and family.causal_prompt and mask.device.type == "cpu" and there


def visible(segments: Tensor, valid: Tensor) -> Tensor:
    """Whether token i sees token j [B, L, L] (bool). Every token sees itself: a row of nothing would be NaN."""
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    shared = (segments[:, None, :] == 0) | (segments[:, :, None] == segments[:, None, :])
    itself = torch.eye(length, dtype=torch.bool, device=segments.device)
    return (earlier & shared & valid[:, None, :]) | itself


def addable(mask: Tensor, backbone: nn.Module) -> Tensor:
    """A mask [B, 1, L, K] of who is seen, in the form that every layer's attention adds to its scores.

    SDPA makes such a mask of a bool one in each layer, and keeps it for the backward pass: 4.3 GB over 32 layers at
    B = 4, L = 4096. This one is shared by all layers, in the dtype that they compute in; its rows begin at multiples of
    16 elements, or CUDA's kernels would copy it after all. Minus infinity hides a key, as SDPA has it; in eager
    attention the least float32.
    """
    if mask.dtype != torch.bool:
        return mask
    config = backbone.config
    assert isinstance(config, PreTrainedConfig)
    eager = config.get_text_config()._attn_implementation == "eager"
    dtype = torch.float32 if eager else _computed_in(backbone, mask.device)
    hidden = torch.finfo(dtype).min if eager else -torch.inf
    keys = mask.shape[-1]
    whole = torch.zeros(*mask.shape[:-1], -(-keys // _ALIGNED) * _ALIGNED, dtype=dtype, device=mask.device)
    return whole[..., :keys].masked_fill_(~mask, hidden)


def _computed_in(backbone: nn.Module, device: torch.device) -> torch.dtype:
    """The dtype of queries and keys."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return next(p.dtype for p in backbone.parameters() if p.is_floating_point())


def _shift(segments: Tensor, valid: Tensor) -> Tensor:
    """How far each token stands behind the place it would have in a row of its own [B, L]."""
    places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    start = torch.where(begins, places, 0).cummax(1).values
    prefix = ((segments == 0) & valid).sum(1, keepdim=True)
    return torch.where(segments > 0, start - prefix, 0)


def _rotary_positions(model: nn.Module, inputs: Mapping[str, Tensor], shift: Tensor, places: Tensor) -> Tensor:
    """Multimodal positions [4, B, L]: a row for the mask, then time, height and width.

    Behind an image words count on from its largest position, all three alike, so a packed segment differs from the
    plain row only by its shift.
    """
    plain, _ = model.get_rope_index(  # type: ignore[operator]
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=inputs.get("image_grid_thw"),
        attention_mask=inputs["attention_mask"],
    )
    return torch.cat([places[None], plain - shift])
