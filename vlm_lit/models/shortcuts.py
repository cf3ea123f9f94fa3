"""What a run may do the short way with a checkpoint, known from its config before any weight is loaded."""

from __future__ import annotations

from transformers import PreTrainedConfig

from vlm_lit.models.attention import unpackable_by
from vlm_lit.models.families import Family
from vlm_lit.models.vision_features import answers_from_features
from vlm_lit.schema import Shortcuts


def shortcuts_of(config: PreTrainedConfig, family: Family, *, attention: str | None) -> Shortcuts:
    """The shortcuts that a checkpoint allows.

    Args:
        config: the checkpoint's.
        family: its facts.
        attention: the attention implementation that is asked for; None takes the checkpoint's or transformers' own.
    """
    implementation = attention or config.get_text_config()._attn_implementation or "sdpa"
    return Shortcuts(
        unpackable=unpackable_by(family, config, implementation), answers_from_features=answers_from_features(family)
    )
