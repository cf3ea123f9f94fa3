"""What does a batch cost? The summed negative log-likelihood of its supervised tokens, the head run on those alone.

B = rows, L = tokens, D = hidden width, S = supervised positions, V = vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm_lit.schema import IGNORE_INDEX


def supervised_cross_entropy(hidden_BLD: Tensor, labels_BL: Tensor, head: nn.Module) -> Tensor:
    """Sum of the cross-entropy over supervised positions (a scalar, float32, in nats).

    The sum, not the mean: the caller divides by the tokens of the whole step, so that the value does not depend on
    how the step was cut into micro-batches. `[B, L, V]` logits never exist, only `[S, V]`.
    """
    next_BL = labels_BL[:, 1:]
    supervised = next_BL != IGNORE_INDEX
    hidden_SD = hidden_BLD[:, :-1][supervised]
    logits_SV: Tensor = head(hidden_SD)
    with torch.autocast(logits_SV.device.type, enabled=False):
        return F.cross_entropy(logits_SV.float(), next_BL[supervised], reduction="sum")
