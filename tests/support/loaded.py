"""A tiny checkpoint loaded and adapted as a run would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel

from vlm_lit.models.adapters import attach_adapters
from vlm_lit.models.families import Family
from vlm_lit.models.loading import load_base
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.quantization import QuantizationSettings

FP32 = PartSettings(precision="fp32")
QUANTIZATION = QuantizationSettings(compute_dtype="fp32")


def settings(**parts: PartSettings) -> PartsSettings:
    """Everything float32; NF4 and LoRA on the language model, projector in full, unless said otherwise."""
    usual: dict[str, Any] = {
        "vision_tower": FP32,
        "projector": PartSettings(precision="fp32", training="full"),
        "language_model": PartSettings(precision="nf4", training="lora"),
        "head": FP32,
    }
    return PartsSettings(**{**usual, **parts})


def adapted(folder: Path, parts: PartsSettings | None = None, **lora: Any) -> tuple[PeftModel, Family]:
    """The adapted model and its family."""
    parts = parts or settings()
    base, family = load_base(str(folder), parts=parts, quantization=QUANTIZATION)
    return attach_adapters(base, family, parts, LoraSettings(**{"dropout": 0.0, **lora}), seed=3), family
