"""Loss of an evaluation: the mean loss of the true answers' tokens, over all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vlm_lit.errors import VlmLitError, listed
from vlm_lit.schema import EvaluationBatch, MicroBatch
from vlm_lit.training.ranks import Ranks


class ValidationLoss:
    """The loss per supervised token, or per whatever training counts, over one evaluation, with training's rows.

    It is a sum over all of the split by their number, so that no batch size and no number of ranks shows in it.

    Args:
        loss: the summed loss of a micro-batch, as training has it.
        dropped_because: what is said of the records that have none, for example that they are too long.
    """

    def __init__(self, loss: Callable[[Any], Tensor], dropped_because: str) -> None:
        self.loss, self.dropped_because = loss, dropped_because
        self.sums: list[float] = []
        self.tokens = self.records = self.unanswered = self.dropped = 0

    def add(self, step_batch: EvaluationBatch) -> None:
        """Add the conversations of a step batch that can be learned; the others are counted.

        Raises:
            VlmLitError: the loss of some is no number.
        """
        if step_batch.supervised is None:
            return
        with torch.no_grad():
            self.sums += [self._finite(batch) for batch in step_batch.supervised.micro_batches]
        self.tokens += step_batch.supervised.weight
        self.records += step_batch.supervised.samples
        self.unanswered += len(step_batch.unanswered)
        self.dropped += len(step_batch.supervised.dropped)

    def _finite(self, batch: MicroBatch) -> float:
        loss = float(self.loss(batch))
        if not math.isfinite(loss):
            raise VlmLitError(
                f"The loss of {listed(batch.ids)} is {loss}. Lower the learning rate, use bf16 rather than "
                "fp16, or look at these records."
            )
        return loss

    def finish(self, ranks: Ranks) -> dict[str, float]:
        """The loss as `loss`, with `loss/left_out` where records are; nothing where no record has an answer.

        Every rank has to ask, and gets the same.
        """
        self.sums = [ranks.sum(math.fsum(self.sums))]
        self.tokens, self.records, self.unanswered, self.dropped = (
            int(ranks.sum(n)) for n in (self.tokens, self.records, self.unanswered, self.dropped)
        )
        left_out = self.unanswered + self.dropped
        found = {"loss": self.sums[0] / self.tokens} if self.tokens else {}
        return found | ({"loss/left_out": float(left_out)} if left_out else {})

    def said_of(self, split: str) -> str | None:
        """What is to be said of the records that the loss is not of, once it is finished; None where it is of all."""
        if not self.unanswered + self.dropped:
            return None
        return (
            f"{split}/loss is of {self.records} records: {self.unanswered} have no answer to compare with, "
            f"{self.dropped} {self.dropped_because}."
        )
