"""Last hidden states of a training batch, whatever stands in for pixels and however rows are shared.

B = rows, L = tokens, D = hidden width.
"""

from __future__ import annotations

from torch import Tensor, nn

from vlm_lit.models.attention import packed_inputs, seen_as_whole
from vlm_lit.models.families import Family
from vlm_lit.models.vision_features import with_features
from vlm_lit.schema import TokenBatch


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
