"""Inspection of a preference run with its own collator and model: both sides of pairs, and one step on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import lightning
from lightning import LightningModule

from vlm_lit.data.preference_datamodule import PreferenceDataModule
from vlm_lit.data.records.record_dataset import RecordDataset
from vlm_lit.data.rows.encoder_choice import template_notes
from vlm_lit.data.rows.pairs import PairCollator
from vlm_lit.errors import VlmLitError, raised
from vlm_lit.objectives.preference_losses import PreferenceLossSettings
from vlm_lit.preflight.inspection.choice import nothing_left, sampled
from vlm_lit.preflight.inspection.lengths import Lengths, Measured, measure
from vlm_lit.preflight.inspection.loaded_run import findings_of, loaded, run_facts
from vlm_lit.preflight.inspection.look import flow_of, inspected_conversations
from vlm_lit.preflight.inspection.pair_report import PairFacts, PairInspection
from vlm_lit.schema import Preference, StepBatch
from vlm_lit.training.protocols import Prefers, Tabulated
from vlm_lit.training.reference_store import pair_key


@dataclass(frozen=True, kw_only=True)
class MeasuredPair:
    """A pair, and the lengths of its sides."""

    pair: Preference
    sides: Sequence[Measured]

    @property
    def kept(self) -> bool:
        """Whether training sees it: a pair is left out whole."""
        return all(side.kept for side in self.sides)


def inspect_pairs(
    module: LightningModule,
    data: PreferenceDataModule,
    trainer: lightning.Trainer,
    *,
    pairs: int,
    lengths: int,
    say: Callable[[str], None],
) -> PairInspection:
    """Load the model, look at pairs as they would be collated, and make one step. The module is spoiled by it.

    Args:
        module: the run's module, its model not loaded yet; it has a loss(batch).
        data: the run's data, set up for `fit`.
        trainer: says where and in which precision the run computes.
        pairs: how many pairs are shown and stepped on.
        lengths: how many are measured.
        say: takes a line of progress.

    Raises:
        RecordError: a record that cannot be used.
        VlmLitError: nothing is left to train on, or the gradient is not finite.
    """
    held = loaded(module, data, trainer, say)
    parts = module.parts_table() if isinstance(module, Tabulated) else []
    say("Measuring pairs ...")
    loader = data.train_dataloader()
    collator = loader.collate_fn
    assert isinstance(collator, PairCollator)
    in_order, sample, total = sampled(loader, lengths)
    measured = [_without_images(_measured(collator, pair)) for pair in sample]
    shown = _chosen(collator, in_order, measured, pairs, lengths)
    say(f"Making one step on {len(shown)} pairs, to be thrown away ...")
    step_batch = raised(collator([one.pair for one in shown]))
    sides = [side for one in shown for side in one.sides]
    with trainer.precision_plugin.train_step_context():
        inspected = inspected_conversations(held, collator.steps, step_batch, sides)
        flow = flow_of(module, data, step_batch, inspected)
    every = [side for one in measured for side in one.sides]
    return PairInspection(
        **run_facts(held, data, trainer),
        parts=parts,
        conversations=inspected,
        lengths=Lengths(
            tokens=tuple(max(side.tokens for side in one.sides) for one in measured),
            total=total,
            max_length=collator.steps.policy.max_length,
            over_length=collator.steps.policy.policy,
            items="pairs",
        ),
        misfits=list({m.conversation.id: m for m in (*every, *sides) if m.outcome != "fits"}.values()),
        findings=findings_of(data),
        gradients=flow,
        template=template_notes(collator.steps.encoder),
        pairs=_facts(module, data, collator, measured, step_batch),
    )


def _measured(collator: PairCollator, pair: Preference) -> MeasuredPair:
    corrupted = [collator.corrupted(pair)] if collator.corrupted is not None else []
    return MeasuredPair(pair=pair, sides=[measure(collator.steps, side) for side in (*pair.sides, *corrupted)])


def _without_images(measured: MeasuredPair) -> MeasuredPair:
    return replace(measured, sides=[replace(side, images=()) for side in measured.sides])


def _chosen(
    collator: PairCollator,
    in_order: Iterable[Preference],
    measured: Sequence[MeasuredPair],
    most: int,
    looked_at: int,
) -> list[MeasuredPair]:
    """The first pairs of the file that training would see.

    Raises:
        VlmLitError: it would see none of them.
    """
    left_out = {one.pair.id for one in measured if not one.kept}
    candidates = (pair for pair in in_order if pair.id not in left_out)
    fresh = (_measured(collator, pair) for pair in islice(candidates, looked_at + most))
    chosen = list(islice((one for one in fresh if one.kept), most))
    chosen = chosen or [_measured(collator, one.pair) for one in measured if one.kept][:most]
    if not chosen:
        raise VlmLitError(nothing_left([side for one in measured for side in one.sides if not side.kept]))
    return chosen


def _facts(
    module: LightningModule,
    data: PreferenceDataModule,
    collator: PairCollator,
    measured: Sequence[MeasuredPair],
    step_batch: StepBatch[Any],
) -> PairFacts:
    train: object = data.datasets["train"]
    keys = train.image_keys if isinstance(train, RecordDataset) else None
    counts = Counter(key for key in keys or () if key is not None)
    store = module.opened_store() if isinstance(module, Prefers) else None
    kept = store.read() if store is not None else {}
    return PairFacts(
        total=len(train) if isinstance(train, RecordDataset) else None,
        sharing=sum(counts[key] > 1 for key in keys if key is not None) if keys is not None else None,
        apart=None if data.packs else data.shortcuts.unpackable or "data.packing is false",
        shown=step_batch.weight,
        rows=sum(len(batch.labels) for batch in step_batch.micro_batches),
        chosen=[one.sides[0].supervised for one in measured],
        rejected=[one.sides[1].supervised for one in measured],
        losses=[_said(loss) for loss in module.losses] if isinstance(module, Prefers) else [],
        compares=module.compares if isinstance(module, Prefers) else None,
        store=None if store is None else str(store.file.parent),
        stored=sum(pair_key(one.pair, collator.corrupted) in kept for one in measured) if kept else 0,
        corrupt=data.corrupt,
    )


def _said(loss: PreferenceLossSettings) -> str:
    return f"{loss.weight:g} {loss.name}" + ("" if loss.name == "sft" else f" (beta {loss.beta:g})")
