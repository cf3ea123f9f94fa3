"""Data loaders: processes that make batches."""

from __future__ import annotations

import torch
from lightning.fabric.utilities.seed import pl_worker_init_function
from torch.utils.data import DataLoader

from vlm_lit.data.workers import leave_interrupts


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
    """Leave Ctrl-C, which a terminal sends to every process of a run, to the one that trains: it still needs data."""
    leave_interrupts()
    pl_worker_init_function(worker)  # Lightning gives its own only where there is none
