"""Left-padded prompts, a question a row, read once: for models whose prompts cannot be packed.

The model makes the mask of the prompts itself: in some families tokens of a prompt see each other in both directions.
What is said behind a prompt is causal in all of them, so it is appended as it is to packed rows.

B = rows, L = tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vlm_lit.models.attention import window_of
from vlm_lit.models.families import Family
from vlm_lit.models.growing_cache import growing_cache
from vlm_lit.models.packed_rows import CROSSED, NOBODY, PrefixReader, cache_argument, read


def read_prompts(
    base: PreTrainedModel, inputs: Mapping[str, Tensor], segments: Tensor | None, family: Family
) -> PrefixReader:
    """Run prompts through the model: packed rows, padded on the right, or those of one question, padded on the left.

    Args:
        base: the model, without its PEFT shell.
        inputs: `input_ids` and `attention_mask` [B, L] among them.
        segments: whose each token of packed rows is [B, L]; None for rows of one question.
        family: how positions are counted.
    """
    return read_padded(base, inputs, family) if segments is None else read(base, inputs, segments, family)


def read_padded(base: PreTrainedModel, inputs: Mapping[str, Tensor], family: Family) -> PrefixReader:
    """Run left-padded prompts through the model: each once, whatever is asked behind it.

    Args:
        base: the model, without its PEFT shell.
        inputs: `input_ids` and `attention_mask` [B, L] among them.
        family: how positions are counted.
    """
    backbone, text = family.backbone_of(base), base.config.get_text_config()
    cache = growing_cache(text.num_hidden_layers, getattr(text, "cross_attention_layers", ()))
    real = inputs["attention_mask"].bool()
    positions = (real.cumsum(1) - 1).clamp(min=0)  # from 0 for PaliGemma too, whose own begin at 1: they are relative
    given = {**inputs, "position_ids": positions, cache_argument(backbone): cache}
    hidden = backbone(**given, use_cache=True).last_hidden_state
    rows, crossed = list(range(len(real))), inputs.get(CROSSED)
    return PrefixReader(
        backbone=backbone,
        cache=cache,
        owners=torch.where(real, 0, NOBODY),
        kept=rows,
        rows=list(rows),
        segments=torch.ones_like(real[:, 0], dtype=torch.int64),
        positions=positions[:, -1] + 1,
        hidden=hidden[:, -1],
        window=window_of(base.config) if family.masks_by_kind else None,
        crossed=None if crossed is None else crossed[:, -1],
    )
