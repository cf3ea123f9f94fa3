"""Throughput of a run: samples and tokens a second, the wait for data, and the memory taken."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any, Final

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer

from vlm_lit.schema import ClassBatch, MicroBatch, StepBatch
from vlm_lit.training.ranks import ranks_of

_GIB = 1024**3
_COUNTS: Final = "over_length_counts"
_PATCH = 3 * 32 * 32  # numbers in a patch of ViLT's


class Throughput(Callback):
    """Logs, under `train/`: samples (conversations, questions or pairs) and tokens a second over all ranks, the share
    of time spent waiting for data, the largest memory taken so far in GiB (the GPU's where there is one, else the
    process's), and how many samples the over-length policy has left out or changed so far, over all ranks and since
    the run's first step. Where there are several ranks, `rank_spread` is how far the one with most to do is above the
    mean, by tokens and padding: 0.1 is 10 %."""

    def __init__(self) -> None:
        self._step_ended: float | None = None
        self._step_began = 0.0
        self._dropped = self._changed = 0

    def on_train_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._step_ended = time.perf_counter()

    def on_train_batch_start(
        self, trainer: LightningTrainer, pl_module: LightningModule, batch: StepBatch, batch_idx: int
    ) -> None:
        """The data is there: the waiting is over."""
        self._step_began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: LightningTrainer, pl_module: LightningModule, outputs: object, batch: StepBatch, batch_idx: int
    ) -> None:
        """Log this step's figures."""
        now = time.perf_counter()
        began = self._step_ended if self._step_ended is not None else self._step_began
        seconds = now - began
        tokens = sum(int(b.inputs["attention_mask"].sum()) for b in batch.micro_batches)
        of_rows = sum(_row_tokens(b) for b in batch.micro_batches)
        mine = batch.samples, tokens, of_rows, len(batch.dropped), len(batch.changed)
        samples, all_tokens, rows, dropped, changed = zip(*ranks_of(trainer).each(mine), strict=True)
        self._dropped += sum(dropped)
        self._changed += sum(changed)
        values = {
            "samples_per_second": sum(samples) / seconds,
            "tokens_per_second": sum(all_tokens) / seconds,
            "data_wait_share": (self._step_began - began) / seconds,
            "peak_memory_gib": peak_memory() / _GIB,
            "over_length_dropped": float(self._dropped),
            "over_length_changed": float(self._changed),
        }
        if len(rows) > 1 and sum(rows) > 0:
            values["rank_spread"] = max(rows) * len(rows) / sum(rows) - 1
        pl_module.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=1)
        self._step_ended = now

    # No state of a callback's own: Lightning would warn of it wherever a checkpoint is read without this callback.
    def on_save_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the counts, so that a resumed run goes on from them."""
        checkpoint[_COUNTS] = (self._dropped, self._changed)

    def on_load_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on from a checkpoint's counts; one of an earlier version has none."""
        self._dropped, self._changed = checkpoint.get(_COUNTS, (0, 0))

    def on_validation_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Time spent validating is not time spent waiting for data."""
        self._step_ended = None


def _row_tokens(batch: MicroBatch) -> int:
    """The tokens of a micro-batch's rows with their padding, and the patches of a classifier's pictures."""
    tokens = batch.inputs["attention_mask"].numel()
    if isinstance(batch, ClassBatch):
        tokens += batch.inputs["pixel_values"].numel() // _PATCH
    return tokens


def peak_memory() -> int:
    """Most bytes held so far: allocated on the GPU where there is one, else resident in this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
