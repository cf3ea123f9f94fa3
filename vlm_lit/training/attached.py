"""Module, data and trainer of a run that is only looked at, joined as `Trainer.fit` joins them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning
from lightning.pytorch.trainer.states import TrainerFn

from vlm_lit.data.datamodule import ConversationDataModule

if TYPE_CHECKING:
    from vlm_lit.training.base import VisionLanguageModule


def attach(module: VisionLanguageModule, data: ConversationDataModule, trainer: lightning.Trainer) -> None:
    """Let module, data and trainer know each other as in a `fit`; nothing is written."""
    trainer.state.fn = TrainerFn.FITTING  # type: ignore[assignment]
    trainer.datamodule = data  # type: ignore[attr-defined]
    data.trainer = module.trainer = trainer
    trainer.strategy.connect(module)
    module.setup("fit")
