"""Log-probabilities of answers, summed over their tokens, the head run on those alone.

B = rows, L = tokens, D = hidden width, S = supervised positions, C = positions in a chunk, V = vocabulary,
N = answers: a row each, or a segment of a row each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vlm_lit.objectives.cross_entropy import CHUNK
from vlm_lit.schema import IGNORE_INDEX


def answer_log_probs(
    hidden: Tensor,
    labels_BL: Tensor,
    head: Callable[[Tensor], Tensor],
    *,
    segments_BL: Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """The log-probability of each answer [N], in nats, and its supervised tokens [N] (int64).

    Answers stand in the order of rows, then of segments, as a batch's `ids` do. Sums are float32, or float64 where the
    logits are. `[B, L, V]` logits never exist, and of `[S, V]` only a chunk at a time, as in `cross_entropy.py`.

    Args:
        hidden: the model's last hidden states, of all positions [B, L, D] or of the supervised ones alone [S, D], row
            by row.
        labels_BL: IGNORE_INDEX wherever nothing is learned.
        head: makes logits of hidden states.
        segments_BL: 0 in what a row's answers share and in padding, 1, 2, ... in what is each one's own; None where
            each row holds one answer.
        chunk: positions whose logits are held at once.
    """
    next_BL = labels_BL[:, 1:]
    supervised = next_BL != IGNORE_INDEX
    hidden_SD = hidden if hidden.dim() == 2 else hidden[:, :-1][supervised]
    log_probs_S = token_log_probs(hidden_SD, next_BL[supervised], head, chunk=chunk)
    # Row by row and segment by segment: each answer's tokens follow one another.
    lengths_N = _lengths(supervised, segments_BL)
    answers = log_probs_S.split(lengths_N.tolist())  # type: ignore[no-untyped-call]
    return torch.stack([answer.sum() for answer in answers]), lengths_N


def token_log_probs(
    hidden_SD: Tensor, targets_S: Tensor, head: Callable[[Tensor], Tensor], *, chunk: int = CHUNK
) -> Tensor:
    """The log-probability of each target [S], `chunk` of them at a time."""
    if len(targets_S) <= chunk:
        return _of_tokens(hidden_SD, targets_S, head)
    pieces = zip(hidden_SD.split(chunk), targets_S.split(chunk), strict=True)  # type: ignore[no-untyped-call]
    return torch.cat([checkpoint(_of_tokens, hidden, targets, head, use_reentrant=False) for hidden, targets in pieces])


def _of_tokens(hidden_CD: Tensor, targets_C: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    logits_CV = head(hidden_CD)
    with torch.autocast(logits_CV.device.type, enabled=False):
        whole = logits_CV if logits_CV.dtype == torch.float64 else logits_CV.float()
        return -F.cross_entropy(whole, targets_C, reduction="none")


def _lengths(supervised: Tensor, segments_BL: Tensor | None) -> Tensor:
    """Supervised tokens of each answer [N]; `supervised` [B, L - 1] is of the tokens from the second on."""
    if segments_BL is None:
        return supervised.sum(1)
    answers_B = segments_BL.amax(1).clamp(min=1)
    firsts_B = answers_B.cumsum(0) - answers_B
    answer_of = firsts_B[:, None] + (segments_BL[:, 1:] - 1).clamp(min=0)
    return torch.bincount(answer_of[supervised], minlength=int(answers_B.sum()))
