"""Inspection of a run with its own collator and model: one step is made, and all of it thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning
import torch
from lightning import LightningModule

from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.encoder_choice import template_notes
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.errors import raised
from vlm_lit.preflight.held_model import HeldModel
from vlm_lit.preflight.inspection.choice import choose
from vlm_lit.preflight.inspection.conversations import Supervision, SupervisionReader
from vlm_lit.preflight.inspection.features import ImageFit, image_fit, image_token_of
from vlm_lit.preflight.inspection.gradient_flow import GradientFlow, gradient_flow, no_step
from vlm_lit.preflight.inspection.lengths import Measured
from vlm_lit.preflight.inspection.loaded_run import findings_of, loaded, run_facts, thumbnails
from vlm_lit.preflight.inspection.report import Inspected, Inspection
from vlm_lit.schema import StepBatch
from vlm_lit.training.protocols import Tabulated


def inspect_run(
    module: LightningModule,
    data: TokenRows[Any],
    trainer: lightning.Trainer,
    *,
    conversations: int,
    lengths: int,
    say: Callable[[str], None],
) -> Inspection:
    """Load the model, look at the data as it would be collated, and make one step. The module is spoiled by it.

    Args:
        module: the run's module, its model not loaded yet; it has a loss(batch).
        data: the run's data, set up for `fit`.
        trainer: says where and in which precision the run computes.
        conversations: how many conversations are shown and stepped on.
        lengths: how many are measured.
        say: takes a line of progress.

    Raises:
        RecordError: a record that cannot be used.
        VlmLitError: nothing is left to train on, or the gradient is not finite.
    """
    held = loaded(module, data, trainer, say)
    parts = module.parts_table() if isinstance(module, Tabulated) else []
    say("Measuring conversations ...")
    loader = data.train_dataloader()
    collator = loader.collate_fn
    assert isinstance(collator, StepCollator)
    chosen = choose(loader, shown=conversations, measured=lengths)
    say(f"Making one step on {len(chosen.shown)} conversations, to be thrown away ...")
    step_batch = raised(collator([m.conversation for m in chosen.shown]))
    with trainer.precision_plugin.train_step_context():
        inspected = inspected_conversations(held, collator, step_batch, chosen.shown)
        flow = flow_of(module, data, step_batch, inspected)
    return Inspection(
        **run_facts(held, data, trainer),
        parts=parts,
        conversations=inspected,
        lengths=chosen.lengths(collator),
        misfits=chosen.misfits,
        findings=findings_of(data),
        gradients=flow,
        template=template_notes(collator.encoder),
    )


def inspected_conversations(
    held: HeldModel, collator: StepCollator, step_batch: StepBatch[Any], shown: Sequence[Measured]
) -> list[Inspected]:
    """Conversations as a step batch has them, and whether their images fit the model."""
    supervisions = _supervisions(held, collator, step_batch, shown)
    fits = [_image_fit(held, collator, measured) for measured in shown]
    return [
        Inspected(id=m.conversation.id, supervision=s, images=f, thumbnails=thumbnails(m.images))
        for m, s, f in zip(shown, supervisions, fits, strict=True)
    ]


def _supervisions(
    held: HeldModel, collator: StepCollator, step_batch: StepBatch[Any], shown: Sequence[Measured]
) -> list[Supervision]:
    encoder = collator.encoder
    reader = SupervisionReader(
        tokenizer=encoder.tokenizer, end_of_turn=encoder.end_of_turn, image_token=image_token_of(held)
    )
    rows = dict(_rows(step_batch))
    conversations = [m.conversation for m in shown]
    return [
        reader.supervision(*rows[c.id], turns=sum(turn.role == "assistant" and turn.supervised for turn in c.turns))
        for c in conversations
    ]


def _rows(step_batch: StepBatch[Any]) -> Iterator[tuple[str, tuple[list[int], list[int]]]]:
    """Token ids and labels of each conversation as collated, padding and whatever others of its row say left out."""
    for batch in step_batch.micro_batches:
        names = iter(batch.ids)
        for i, valid in enumerate(batch.inputs["attention_mask"].bool()):
            segments = batch.segments[i] if batch.segments is not None else torch.zeros_like(batch.labels[i])
            for k in range(1, max(int(segments.max()), 1) + 1):
                own = valid & ((segments == 0) | (segments == k))
                yield next(names), (batch.inputs["input_ids"][i][own].tolist(), batch.labels[i][own].tolist())


def _image_fit(held: HeldModel, collator: StepCollator, measured: Measured) -> ImageFit:
    batch = collator.encoder.encode([measured.conversation], [measured.images], side="right")
    return image_fit(held, {name: value.to(held.base.device) for name, value in batch.inputs.items()})


def flow_of(
    module: LightningModule, data: TokenRows[Any], step_batch: StepBatch[Any], shown: Sequence[Inspected]
) -> GradientFlow:
    """What one step on these does; none is made where placeholders and image features differ."""
    if not all(inspected.images.fits for inspected in shown):
        return no_step(module, "no step was made: placeholders and image features differ")
    data.transfer_batch_to_device(step_batch, module.device, 0)
    return gradient_flow(module, step_batch)
