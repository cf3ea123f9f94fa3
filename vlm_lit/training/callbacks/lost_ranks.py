"""End of a run of several processes when one of them has died: with a sentence, and soon."""

from __future__ import annotations

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vlm_lit.training.rank_links import RankLinks


class LostRanks(Callback):
    """Ends this process when another one of its run has died; without it, it may wait for that one for half an hour."""

    def __init__(self) -> None:
        self._links: RankLinks | None = None

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Connect the processes: from here on they wait for each other."""
        if trainer.world_size == 1 or not (dist.is_available() and dist.is_initialized()):
            return
        self._links = RankLinks(trainer.global_rank, trainer.world_size, trainer.num_nodes)
        try:
            self._links.open()
        except OSError as error:
            rank_zero_warn(
                f"The processes of this run cannot watch each other ({error}). Should one die, the others wait for it "
                "until the timeout of their collectives."
            )

    def teardown(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Part from the others: the run is over."""
        if self._links is not None:
            self._links.close()
            self._links = None

    def on_exception(self, trainer: LightningTrainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Part from the others, who are stopped as well, or are told of an error that may be this process's alone."""
        if self._links is None:
            return
        together = isinstance(exception, KeyboardInterrupt | SIGTERMException)
        if not together:
            self._links.lost(1.0)  # the error may be what a collective makes of the other's death
        self._links.close("bye" if together else "failed")
        self._links = None
