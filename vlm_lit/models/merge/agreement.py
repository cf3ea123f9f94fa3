"""Distance between the logits of two models that ought to be one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlm_lit.errors import ConfigError
from vlm_lit.models.patch_draw import seeded_patches


@dataclass(frozen=True, kw_only=True)
class LogitAgreement:
    """Two models on the same tokens.

    Args:
        difference: largest absolute difference of a logit.
        size: largest absolute logit of the first model, which `difference` is to be seen against.
        same_top: share of the positions whose likeliest next token is the same.
        positions: number of positions compared.
    """

    difference: float
    size: float
    same_top: float
    positions: int

    @property
    def words(self) -> str:
        """The figures as a sentence's end."""
        same = round(self.same_top * self.positions)
        return (
            f"largest logit difference {self.difference:.2g} at logits up to {self.size:.3g}; the likeliest token is "
            f"the same at {same} of {self.positions} positions ({100 * self.same_top:.1f} %)"
        )


@torch.no_grad()
def text_logits(model: nn.Module, inputs: Mapping[str, Tensor], image_token: int | None) -> Tensor:
    """The logits [T, V] in float32 behind each of one row's T tokens that is not an image placeholder.

    Of a classifier its logits [1, N].

    Raises:
        ConfigError: a logit is not a finite number.
    """
    with seeded_patches(0):
        logits: Tensor = model.eval()(**inputs).logits
    if logits.dim() == 2:
        return logits.float()
    kept = inputs["input_ids"][0] != (-1 if image_token is None else image_token)
    chosen = logits[0][kept].float()
    if not bool(torch.isfinite(chosen).all()):
        raise ConfigError(
            "The model's logits are not finite numbers in this dtype. Use --dtype bf16 or fp32: fp16 ends at 65504."
        )
    return chosen


def compare(a: Tensor, b: Tensor) -> LogitAgreement:
    """How far the logits `b` [T, V] are from `a` [T, V]."""
    return LogitAgreement(
        difference=float((a - b).abs().max()),
        size=float(a.abs().max()),
        same_top=float((a.argmax(-1) == b.argmax(-1)).double().mean()),
        positions=math.prod(a.shape[:-1]),
    )
