"""Module, data and trainer of a run that is only looked at, joined as `Trainer.fit` joins them."""

from __future__ import annotations

from typing import Any

import lightning
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn

from vlm_lit.data.record_datamodule import RecordDataModule
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.training.feature_cache import check_run
from vlm_lit.training.protocols import Towered


def attach(module: LightningModule, data: RecordDataModule[Any], trainer: lightning.Trainer) -> None:
    """Let module, data and trainer know each other as in a `fit`; nothing is written.

    Raises:
        ConfigError: the run is to keep vision features that would be wrong in its next step.
    """
    trainer.state.fn = TrainerFn.FITTING  # type: ignore[assignment]
    trainer.datamodule = data  # type: ignore[attr-defined]
    data.trainer = module.trainer = trainer
    trainer.strategy.connect(module)
    if isinstance(data, TokenRows) and data.feature_cache is not None and isinstance(module, Towered):
        check_run(data, module.model_id, module.revision, module.parts)
    module.setup("fit")
