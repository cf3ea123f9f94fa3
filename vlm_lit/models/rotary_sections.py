"""Shares of a rotary embedding that turn with time, height and width (Qwen's M-RoPE), checked against its width."""

from __future__ import annotations

from typing import Final

from transformers import PretrainedConfig

from vlm_lit.errors import ConfigError

_AXES: Final = 3


def refuse_rotary_sections(config: PretrainedConfig, model_id: str) -> None:
    """Refuse sections that do not make up the rotary embedding of a head.

    Qwen2-VL's model fails over them at its first forward pass; Qwen3-VL's takes other positions without a word.

    Raises:
        ConfigError: `mrope_section` is not three whole numbers that add up to half of a head's rotary width.
    """
    text = config.get_text_config()
    rotary = getattr(text, "rope_parameters", None) or {}
    if "mrope_section" not in rotary:
        return  # transformers has published ones
    sections = rotary["mrope_section"]
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    half = int(width * rotary.get("partial_rotary_factor", 1.0)) // 2
    whole = isinstance(sections, list) and all(type(one) is int and one > 0 for one in sections)
    if not whole or len(sections) != _AXES or sum(sections) != half:
        raise ConfigError(
            f"model_id {model_id!r}: mrope_section in its config.json is {sections!r:.60}; it must be three "
            f"whole numbers that add up to {half}, half of an attention head's width. Fetch its files again."
        )
