"""Micro-batches of pairs: a prompt with its chosen and its rejected answer, never parted.

Where the model allows it the two share a row, and pairs about one picture share it as well: the picture and what is
said before the answers stand in it once. B = rows, L = tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.errors import RecordError, raised
from vlm_lit.schema import EvaluationBatch, Preference, StepBatch, TokenBatch


@dataclass(kw_only=True)
class PairBatch(TokenBatch):
    """One micro-batch of pairs. Its conversations follow one another: chosen, rejected, chosen, rejected, ...

    `ids` and `lengths` are the conversations', in the order of rows, then of segments. `reference` [2 P] float64 holds
    the reference's log-probabilities of the answers, in the order of `ids`, where they are known ahead.
    """

    reference: Tensor | None = None

    @property
    def weight(self) -> int:
        """The pairs: a loss summed over them divided by their number is a mean."""
        return len(self.ids) // 2


class PairCollator:
    """Makes a step batch of pairs.

    Args:
        steps: makes a step batch of units of conversations that are never parted.
        reference: the reference's log-probability of each answer by its id, where they are known ahead.
    """

    def __init__(self, steps: StepCollator, reference: Mapping[str, float] | None = None) -> None:
        self.steps, self.reference = steps, reference or {}

    def __call__(self, pairs: Sequence[Preference]) -> StepBatch[PairBatch] | RecordError:
        """Collate a step batch; the error of a bad record is returned, not raised."""
        try:
            return self.collate(pairs)
        except RecordError as error:
            return error

    def collate(self, pairs: Sequence[Preference]) -> StepBatch[PairBatch]:
        """Collate pairs.

        Raises:
            RecordError: a record that cannot be used.
        """
        made = self.steps.collate([pair.sides for pair in pairs])
        batches = [PairBatch(**vars(batch), reference=self._known(batch.ids)) for batch in made.micro_batches]
        dropped, changed = ({*made.dropped}, {*made.changed})
        return StepBatch(
            micro_batches=batches,
            weight=sum(batch.weight for batch in batches),
            rows=made.rows,
            dropped=[pair.id for pair in pairs if pair.sides[0].id in dropped],
            changed=[pair.id for pair in pairs if pair.sides[0].id in changed],
        )

    def _known(self, ids: Sequence[str]) -> Tensor | None:
        if not all(name in self.reference for name in ids):
            return None
        return torch.tensor([self.reference[name] for name in ids], dtype=torch.float64)


class PairEvaluationCollator:
    """Makes evaluation batches of pairs, which are measured and not answered.

    Args:
        pairs: makes a step batch of pairs.
    """

    def __init__(self, pairs: PairCollator) -> None:
        self.pairs = pairs

    def __call__(self, pairs: Sequence[Preference]) -> EvaluationBatch | RecordError:
        """Collate pairs; the error of a bad record is returned, not raised."""
        try:
            return EvaluationBatch(batches=[], ids=[], supervised=raised(self.pairs(pairs)))
        except RecordError as error:
            return error
