"""Micro-batches of pairs: a prompt with its chosen and its rejected answer, never parted.

Where the model allows it the two share a row, and pairs about one picture share it as well: the picture and what is
said before the answers stand in it once. Where a loss asks for it, a third belongs to a pair: the chosen answer behind
a corrupted picture, in a row of its own. B = rows, L = tokens, P = pairs, N = answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.errors import RecordError, raised
from vlm_lit.schema import Conversation, EvaluationBatch, Preference, StepBatch, TokenBatch


@dataclass(kw_only=True)
class PairBatch(TokenBatch):
    """One micro-batch of pairs. Its conversations follow one another: chosen, rejected, chosen, rejected, ...

    Behind them stand, where `answers` is 3, the chosen ones behind corrupted pictures, in the pairs' order. `ids` and
    `lengths` are the conversations', in the order of rows, then of segments. `reference` [N] float64 holds the
    reference's log-probabilities of the answers, in the order of `ids`, where they are known ahead.
    """

    reference: Tensor | None = None
    answers: int = 2

    @property
    def weight(self) -> int:
        """The pairs: a loss summed over them divided by their number is a mean."""
        return len(self.ids) // self.answers

    @property
    def samples(self) -> int:
        """The pairs."""
        return self.weight


class Corrupts(Protocol):
    """Makes of a pair its chosen conversation behind a corrupted picture."""

    def __call__(self, pair: Preference) -> Conversation:
        """That conversation.

        Raises:
            RecordError: the pair's picture cannot be corrupted.
        """

    def names(self, pair: Preference) -> list[object]:
        """What names its pictures, where the pair's own are known: plain values, or images by their contents."""


class PairCollator:
    """Makes a step batch of pairs.

    Args:
        steps: makes a step batch of units of conversations that are never parted.
        reference: the reference's log-probability of each answer by its id, where they are known ahead.
        corrupted: makes of a pair its chosen conversation behind a corrupted picture; None where no loss asks for it.
    """

    def __init__(
        self,
        steps: StepCollator,
        reference: Mapping[str, float] | None = None,
        corrupted: Corrupts | None = None,
    ) -> None:
        self.steps, self.reference, self.corrupted = steps, reference or {}, corrupted

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
        beside = [] if self.corrupted is None else [self.corrupted(pair) for pair in pairs]
        made, answers = self.steps.collate([pair.sides for pair in pairs], beside), 3 if beside else 2
        batches = [
            PairBatch(**vars(batch), reference=self._known(batch.ids), answers=answers) for batch in made.micro_batches
        ]
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
