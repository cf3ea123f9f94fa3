"""Memory that the C library keeps of what was freed, given back to the system now and then.

What is freed between pieces still in use stays with the process, and slowly becomes more: 6 % over 3,000 steps of a
small model, of which nothing was in use.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer

_EVERY: Final = 100
"""Optimizer steps. Giving back takes milliseconds, and the next step asks for some of it again."""


class ReturnedMemory(Callback):
    """Gives freed memory back behind each validation, and every hundred steps."""

    def __init__(self) -> None:
        self._give_back = _malloc_trim()

    def on_validation_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """A validation has just freed the most."""
        self._give_back(0)

    def on_train_batch_end(
        self, trainer: LightningTrainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """A step is over."""
        if trainer.global_step % _EVERY == 0:
            self._give_back(0)


def _malloc_trim() -> Callable[[int], object]:
    """The C library's function; one that does nothing where it is not the GNU one."""
    found = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return found if found is not None else (lambda _: None)
