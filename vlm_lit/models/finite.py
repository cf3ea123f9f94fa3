"""Numbers that are none (NaN, infinities): where they stand among weights and among scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from vlm_lit.errors import VlmLitError, listed


class NonFiniteScoresError(VlmLitError):
    """Scores that are no numbers, so that no answer can be taken from them.

    Args:
        rows: the positions of the questions that have such, in the order in which they were asked.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(
            "The model's scores are not finite, so that they say no answer. Its weights may have diverged in training, "
            "or 16 bits are too few for its numbers: test an earlier checkpoint, or use bf16 or fp32 instead of fp16."
        )
        self.rows = list(rows)

    def naming(self, questions: Iterable[str]) -> VlmLitError:
        """The same, with the ids of the questions that its rows are."""
        return VlmLitError(f"{self} Questions: {listed(list(questions))}.")


class WatchedScores(LogitsProcessor):  # type: ignore[misc]
    """Notes in which rows of a generation no token was the likeliest; leaves the scores as they are.

    Args:
        at_once: refuse them when they come: something behind this draws tokens by them.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once = at_once
        self._bad_B: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Look at the scores [B, V] of the next token behind `input_ids` [B, L]."""
        bad_B = senseless(scores)
        self._bad_B = bad_B if self._bad_B is None else self._bad_B | bad_B  # not read here: a GPU would be waited for
        if self.at_once:
            self.check()
        return scores

    def check(self) -> None:
        """Refuse what was seen.

        Raises:
            NonFiniteScoresError: in some row.
        """
        if self._bad_B is not None:
            refuse(self._bad_B)


def senseless(scores_BV: Tensor) -> Tensor:
    """Whether no token is the likeliest [B]: some score is no number or infinite, or all are forbidden."""
    return ~scores_BV.amax(-1).isfinite()


def refuse(bad_B: Tensor) -> None:
    """Refuse rows that are marked.

    Raises:
        NonFiniteScoresError: some are.
    """
    rows = bad_B.nonzero()[:, 0].tolist()
    if rows:
        raise NonFiniteScoresError(rows)


def check_weights(state: Mapping[str, Tensor], step: int | None = None) -> None:
    """Refuse to keep weights that are no numbers.

    Args:
        state: the weights by name, each [...].
        step: the optimizer steps behind them; None where that is not known.

    Raises:
        VlmLitError: some are not finite; says how many tensors, and the first.
    """
    if not state or bool(torch.stack([tensor.isfinite().all().cpu() for tensor in state.values()]).all()):
        return
    bad = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    behind = "" if step is None else f" after step {step}"
    raise VlmLitError(
        f"{len(bad)} of {len(state)} weight tensors{behind} are not finite (first: {bad[0]}), so they are not saved. "
        "What was saved before is there still. Start again with a lower learning rate, a longer warmup or a "
        "gradient_clip, or with bf16 in place of fp16."
    )
