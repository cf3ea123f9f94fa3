"""Choice of the conversations that an inspection measures, and of those that it shows.

All are measured where there are few, else those that training visits first: its order is random, so they stand for the
rest. Shown are the first of the file that training would see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from vlm_lit.data.records.record_dataset import RecordDataset
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.sampler import StepSampler
from vlm_lit.errors import VlmLitError
from vlm_lit.preflight.inspection.lengths import Lengths, Measured, measure
from vlm_lit.schema import StepBatch


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The measured conversations, without their images; the shown ones with them; how many there are in all."""

    measured: list[Measured]
    shown: list[Measured]
    total: int | None

    @property
    def misfits(self) -> list[Measured]:
        """The conversations that are changed, dropped, or stop the run."""
        return list({m.conversation.id: m for m in (*self.measured, *self.shown) if m.outcome != "fits"}.values())

    def lengths(self, collator: StepCollator) -> Lengths:
        """How long the measured ones are."""
        return Lengths(
            tokens=tuple(m.tokens for m in self.measured),
            total=self.total,
            max_length=collator.policy.max_length,
            over_length=collator.policy.policy,
        )


def choose(loader: DataLoader[StepBatch], *, shown: int, measured: int) -> Choice:
    """Measure a sample and pick what to show.

    Args:
        loader: the run's own, over its training data.
        shown: most conversations to show.
        measured: most conversations to measure.

    Raises:
        RecordError: a record that cannot be used.
        VlmLitError: training would see none of them.
    """
    collator = loader.collate_fn
    assert isinstance(collator, StepCollator)
    in_order, sample, total = sampled(loader, measured)
    lengths = {c.id: replace(measure(collator, c), images=()) for c in sample}
    kept = [c for c in sample if lengths[c.id].kept]
    candidates = (c for c in in_order if c.id not in lengths or lengths[c.id].kept)
    # Of so many in a row that were not measured one will fit, or else those of the sample have to serve.
    fresh = (measure(collator, c) for c in islice(candidates, measured + shown))
    chosen = list(islice((m for m in fresh if m.kept), shown)) or [measure(collator, c) for c in kept[:shown]]
    if not chosen:
        raise VlmLitError(nothing_left(list(lengths.values())))
    pictured = next((c for c in kept if c.images), None)
    if pictured is not None and not any(m.images for m in chosen):
        chosen[-1] = measure(collator, pictured)  # without an image nothing could reach the projector
    return Choice(measured=list(lengths.values()), shown=chosen, total=total)


def sampled(loader: DataLoader[StepBatch[Any]], most: int) -> tuple[Iterator[Any], list[Any], int | None]:
    """All items in their own order, those to measure, and how many there are; None for a stream."""
    train: object = loader.dataset
    if isinstance(train, RecordDataset):
        n, visits = len(train), loader.batch_sampler
        assert isinstance(visits, StepSampler)
        first = (i for step in range(visits.epoch_steps) for i in visits.indices(step))
        chosen = range(n) if most >= n else islice(first, most)
        return (train[i] for i in range(n)), [train[i] for i in chosen], n
    assert isinstance(train, StreamedSteps)
    streamed = list(islice((c for step_batch in train for c in step_batch), most))
    return iter(streamed), streamed, None


def nothing_left(measured: Sequence[Measured]) -> str:
    """That none of these can be trained on, and why the first cannot."""
    first = next(m for m in measured if not m.kept)
    reason = str(first.error) if first.error is not None else f"{first.conversation.id} has {first.reason}."
    return f"None of the {len(measured)} conversations looked at can be trained on. The first: {reason}"
