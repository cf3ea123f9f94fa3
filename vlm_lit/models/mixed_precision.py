"""Precision of the trainer that the parts' precisions can be multiplied in."""

from __future__ import annotations

from vlm_lit.errors import ConfigError
from vlm_lit.models.families import PART_NAMES, Family
from vlm_lit.models.parts import PartsSettings


def check_precision(precision: str, parts: PartsSettings, family: Family | None = None) -> None:
    """Refuse a precision of the trainer that the parts' precisions cannot be multiplied in.

    Args:
        precision: the trainer's.
        parts: as asked for.
        family: the model's; None for one that generates text.

    Raises:
        ConfigError: naming the settings to change.
    """
    if precision not in ("32-true", "bf16-mixed"):
        why = " fp16 needs a scaled loss, which no step here has." if precision.startswith("16") else ""
        raise ConfigError(
            f"trainer.precision is {precision}; use bf16-mixed, or 32-true where a GPU has no bfloat16 (T4, V100)."
            f"{why} Parts have their own precision."
        )
    if precision == "32-true" and needs_autocast(parts, family):
        raise ConfigError(
            "Some parts are stored in bf16 while others are kept or trained in float32, which only autocast can "
            "multiply. Set trainer.precision to bf16-mixed, or every part's precision to fp32 or nf4."
        )


def needs_autocast(parts: PartsSettings, family: Family | None = None) -> bool:
    """Whether bfloat16 weights meet float32 ones, so that only autocast can multiply them.

    Args:
        parts: as asked for.
        family: the model's; None for one that generates text, which has every part but the embeddings.
    """
    there = [part for part in PART_NAMES if (family.roots(part) if family is not None else part != "embeddings")]
    bf16 = any(parts.of(part).precision == "bf16" for part in there)
    fp32 = any(parts.of(part).precision == "fp32" or parts.of(part).training == "full" for part in there)
    return bf16 and fp32
