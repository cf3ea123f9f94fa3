"""Record of the answers that a classifier chooses from, kept beside its config."""

from __future__ import annotations

from typing import Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer

from vlm_lit.training.protocols import ChoosesAnswers
from vlm_lit.training.trainer import run_folder

FILE: Final = "answers.json"


class KeptAnswers(Callback):
    """Writes `answers.json` once a `fit` is sure to start: the answers, in the order of the head's rows."""

    def on_fit_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """The head is made for them by now."""
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, ChoosesAnswers) and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            data.vocabulary.write(run_folder(trainer) / FILE)
