"""Micro-batches of pairs: a prompt with its chosen and its rejected answer, never parted.

Where the model allows it the two share a row, and pairs about one picture share it as well: the picture and what is
said before the answers stand in it once. B = rows, L = tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.errors import RecordError, raised
from vlm_lit.schema import EvaluationBatch, Preference, StepBatch, TokenBatch


@dataclass(kw_only=True)
class PairBatch(TokenBatch):
    """One micro-batch of pairs. Its conversations follow one another: chosen, rejected, chosen, rejected, ...

    `ids` and `lengths` are the conversations', in the order of rows, then of segments.
    """

    @property
    def weight(self) -> int:
        """The pairs: a loss summed over them divided by their number is a mean."""
        return len(self.ids) // 2


class PairCollator:
    """Makes a step batch of pairs.

    Args:
        steps: makes a step batch of units of conversations that are never parted.
    """

    def __init__(self, steps: StepCollator) -> None:
        self.steps = steps

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
        batches = [PairBatch(**vars(batch)) for batch in made.micro_batches]
        dropped, changed = ({*made.dropped}, {*made.changed})
        return StepBatch(
            micro_batches=batches,
            weight=sum(batch.weight for batch in batches),
            rows=made.rows,
            dropped=[pair.id for pair in pairs if pair.sides[0].id in dropped],
            changed=[pair.id for pair in pairs if pair.sides[0].id in changed],
        )


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
            made: StepBatch[Any] = raised(self.pairs(pairs))
            return EvaluationBatch(batches=[], ids=[], supervised=made)
        except RecordError as error:
            return error
