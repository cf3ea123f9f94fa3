"""When does a run validate, and what does it say about itself before it starts?"""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.data.sources import StreamedWindows
from vlm_lit.models.parts import format_table
from vlm_lit.schema import ConfigError, StepWindow
from vlm_lit.training.base import VisionLanguageModule
from vlm_lit.training.trainer import Trainer


class PassSchedule(Callback):
    """Turns passes over the data into optimizer steps for Lightning."""

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Set after how many steps to validate, now that the data's length is known."""
        if stage != "fit":
            return
        if not isinstance(trainer, Trainer):
            raise ConfigError("Use vlm_lit.training.trainer.Trainer: Lightning's own counts batches, not passes.")
        assert isinstance(pl_module, VisionLanguageModule)
        data = pl_module.data
        if "val" not in data.datasets:
            trainer.limit_val_batches = 0
        total = data.total_steps
        streamed = isinstance(data.datasets["train"], StreamedWindows)
        interval = trainer.validation_steps(total if streamed else data.steps_per_pass, total)
        trainer.val_check_interval = interval

    def on_train_batch_start(
        self, trainer: LightningTrainer, pl_module: LightningModule, batch: StepWindow, batch_idx: int
    ) -> None:
        """Figures are logged at the optimizer steps done so far; after a resumption Lightning would count one more."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


class PartsTable(Callback):
    """Prints what each part of the model holds and trains."""

    def on_fit_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Print the table, and how long the run is."""
        assert isinstance(pl_module, VisionLanguageModule)
        rank_zero_info("\n" + format_table(pl_module.parts_table()))
        rank_zero_info(
            f"{pl_module.data.total_steps} optimizer steps of {pl_module.data.effective_batch} conversations"
        )
