"""Supervised fine-tuning: a model is trained to say what the assistant says."""

from __future__ import annotations

from torch import Tensor

from vlm_lit.objectives.cross_entropy import supervised_cross_entropy
from vlm_lit.schema import TokenBatch
from vlm_lit.training.answered import AnsweredModule
from vlm_lit.training.step import StepModule


class SupervisedModule(StepModule, AnsweredModule):
    """Supervised fine-tuning: next-token cross-entropy on the assistant's words, evaluation by greedy answers."""

    def loss(self, batch: TokenBatch) -> Tensor:
        """Summed cross-entropy of a micro-batch's supervised tokens (a scalar, in nats)."""
        return supervised_cross_entropy(self.supervised_states(batch), batch.labels, self.logits)
