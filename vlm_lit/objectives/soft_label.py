"""Summed loss of a classifier against soft targets.

B = rows, N = answers.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

SoftLoss = Literal["binary", "softmax"]


def soft_label_loss(logits_BN: Tensor, targets_BN: Tensor, kind: SoftLoss = "binary") -> Tensor:
    """The loss of all rows together (a scalar, float32, in nats).

    `binary` is binary cross-entropy with logits, summed over the answers as well: ViLT's loss, and that of
    `ViltForQuestionAnswering`, is the mean over rows and answers times N, which is this divided by B.

    `softmax` is the cross-entropy of the softmax over all answers against the targets as shares of their row's sum.

    The sum, not the mean: the caller divides by the rows of the whole step, so that the value does not depend on how
    the step was cut into micro-batches. In float32, whatever the logits' type.

    Args:
        logits_BN: the model's logits.
        targets_BN: how right each answer is, in [0, 1]; for `softmax` no row is all zeros.
        kind: which of the two.
    """
    with torch.autocast(logits_BN.device.type, enabled=False):
        logits_BN, targets_BN = logits_BN.float(), targets_BN.float()
        if kind == "binary":
            return F.binary_cross_entropy_with_logits(logits_BN, targets_BN, reduction="sum")
        shares_BN = targets_BN / targets_BN.sum(dim=1, keepdim=True)
        return F.cross_entropy(logits_BN, shares_BN, reduction="sum")
