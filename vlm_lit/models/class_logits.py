"""Scores of every answer for pictures and questions, by a classifier.

B = questions, N = answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

from torch import Tensor
from transformers import PreTrainedModel

from vlm_lit.models.patch_draw import seeded_patches


def class_logits(base: PreTrainedModel, inputs: Mapping[str, Tensor], seed: int | None) -> Tensor:
    """The logits [B, N] in float32.

    Args:
        base: the model without its PEFT shell.
        inputs: what its processor made of the questions and pictures.
        seed: what random draws of the forward pass follow from, the process's own left alone: in evaluation. None in a
            training step, which has seeded the global generator for its micro-batch: dropout draws from that too.
    """
    with nullcontext() if seed is None else seeded_patches(seed, base.device):
        logits: Tensor = base(**inputs).logits
    return logits.float()
