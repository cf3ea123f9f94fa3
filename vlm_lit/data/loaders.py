"""Data loaders: processes that make batches."""

from __future__ import annotations

import torch
from lightning.fabric.utilities.seed import pl_worker_init_function
from torch.utils.data import DataLoader

from vlm_lit.data.shared_memory import say_what_is_lost
from vlm_lit.data.workers import end_with_parent, leave_stops


def loader(dataset: object, *, workers: int, **options: object) -> DataLoader:  # type: ignore[type-arg]
    """A data loader over `dataset`; `options` are DataLoader's."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
        worker_init_fn=_begin_worker,
        **options,  # type: ignore[arg-type]
    )


def _begin_worker(worker: int) -> None:
    """Leave the signals to stop to the process that trains, and end with it.

    torch's own watch looks every five seconds, and not while a batch is made.
    """
    end_with_parent()
    leave_stops()
    say_what_is_lost()
    pl_worker_init_function(worker)  # Lightning gives its own only where there is none
