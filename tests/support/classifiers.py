"""The tiny classifier loaded as a run would, with questions, soft targets and the loss that transformers has for it.

B = questions, N = answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from tests.support import tiny_models
from tests.support.tiny_families.vilt import ANSWERS, vilt, vilt_processor
from vlm_lit.models.answer_head import load_classifier
from vlm_lit.models.families import Family
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.quantization import QuantizationSettings

FP32: Final = PartSettings(precision="fp32")
FULL: Final = PartSettings(precision="fp32", training="full")
QUANTIZATION: Final = QuantizationSettings(compute_dtype="fp32")
QUESTIONS: Final = ("what colour is the lamp?", "how many tools are there?", "yes or no?")
SIZES: Final = ((40, 32), (90, 44), (33, 70))


def parts(**changed: PartSettings) -> PartsSettings:
    """Everything float32 and frozen but the head, unless said otherwise."""
    usual = {"projector": PartSettings(), "embeddings": FP32, "language_model": FP32, "head": FULL}
    return PartsSettings(**{**usual, **changed})


def load(
    folder: Path, asked: PartsSettings, answers: Sequence[str] = ANSWERS, *, seed: int = 0, dropout: float | None = None
) -> tuple[PreTrainedModel, Family]:
    """The classifier of a folder, in evaluation mode, and its facts."""
    base, family, _ = load_classifier(
        str(folder), answers, parts=asked, quantization=QUANTIZATION, seed=seed, dropout=dropout
    )
    return base.eval(), family


def tiny() -> PreTrainedModel:
    """The tiny ViLT that the folders of these tests hold."""
    model, _ = vilt(0)
    return model


def inputs(rows: Sequence[int] = (0, 1, 2)) -> dict[str, Tensor]:
    """Questions about pictures of different sizes, so that some have masked patches."""
    output = vilt_processor()(
        text=[QUESTIONS[row] for row in rows],
        images=[tiny_models.picture(row, SIZES[row]) for row in rows],
        padding=True,
        return_tensors="pt",
    )
    return dict(output)


def targets(rows: Sequence[int] = (0, 1, 2)) -> Tensor:
    """Soft targets [B, N] between 0 and 1."""
    return torch.rand(len(QUESTIONS), len(ANSWERS), generator=torch.Generator().manual_seed(0))[list(rows)]


def loss(logits: Tensor, soft: Tensor) -> Tensor:
    """Binary cross-entropy of logits and targets [B, N]: summed over answers, its mean over questions (a scalar)."""
    return F.binary_cross_entropy_with_logits(logits, soft, reduction="sum") / len(logits)
