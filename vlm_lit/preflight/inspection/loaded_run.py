"""Loading of a run that is inspected, and the facts that every kind of run has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypedDict

import lightning
from lightning import LightningModule
from PIL import Image

from vlm_lit.data.record_datamodule import RecordDataModule
from vlm_lit.data.records.findings import Findings
from vlm_lit.data.records.record_dataset import RecordDataset
from vlm_lit.errors import ConfigError
from vlm_lit.preflight.attached import attach
from vlm_lit.preflight.held_model import HeldModel, held_model
from vlm_lit.training.protocols import has_loss

_THUMBNAIL: Final = 224


class RunFacts(TypedDict):
    """What a report says of the run itself."""

    model_id: str
    model_type: str
    device: str
    precision: str
    steps: int
    effective_batch: int


def loaded(
    module: LightningModule, data: RecordDataModule[Any], trainer: lightning.Trainer, say: Callable[[str], None]
) -> HeldModel:
    """Load a module's model onto the run's device.

    Args:
        module: the run's, its model not loaded yet.
        data: its data, set up for `fit`.
        trainer: says where the run computes.
        say: takes a line of progress.

    Raises:
        ConfigError: the module has no loss to look at.
    """
    if not has_loss(module):
        raise ConfigError(
            f"{type(module).__name__} has no loss(batch), so no step of it can be looked at. Let it have one that "
            "gives the sum of a micro-batch."
        )
    attach(module, data, trainer)
    say(f"Loading {data.model_id} ...")
    module.configure_model()
    module.to(trainer.strategy.root_device)
    return held_model(module)


def run_facts(held: HeldModel, data: RecordDataModule[Any], trainer: lightning.Trainer) -> RunFacts:
    """What the run is."""
    return RunFacts(
        model_id=data.model_id,
        model_type=str(held.base.config.model_type),
        device=str(trainer.strategy.root_device),
        precision=str(trainer.precision),
        steps=data.total_steps,
        effective_batch=data.effective_batch,
    )


def findings_of(data: RecordDataModule[Any]) -> Findings:
    """What was noted when the training records were read; nothing of a stream."""
    train = data.datasets.get("train")
    if not isinstance(train, RecordDataset):
        return Findings()
    mixed = train.mixture.lines() if train.mixture is not None else ()
    return replace(train.findings, mixture=tuple(mixed))


def thumbnails(images: Sequence[Image.Image]) -> tuple[Image.Image, ...]:
    """Small copies of images."""
    copies = tuple(image.copy() for image in images)
    for copy in copies:
        copy.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return copies
