"""Steps of a run done again, and what of them is as its certificate says: bits, or losses within a tolerance."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from torch import Tensor

from vlm_lit.models.adapter_state import trainable_state
from vlm_lit.schema import StepBatch
from vlm_lit.training.certifying.certificate import Certificate
from vlm_lit.training.certifying.differences import other_tensors
from vlm_lit.training.certifying.weight_digests import tensor_digests
from vlm_lit.training.checkpoint_io import DurableCheckpointIO
from vlm_lit.training.identity import DATA, SAID
from vlm_lit.training.position import place_behind_step


class ReplayedSteps(Callback):
    """Notes each step's loss and, after some, the weights; ends the run behind the last one asked for.

    Args:
        until: the optimizer step after which the run ends.
        weights_at: steps after which the weights are noted.
    """

    def __init__(self, until: int, weights_at: Collection[int]) -> None:
        self.until, self.weights_at = until, frozenset(weights_at)
        self.losses: dict[int, float] = {}
        self.weights: dict[int, list[str]] = {}
        self.names: list[str] = []

    def on_load_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on behind the checkpoint's step, without the validation that may be due there."""
        place_behind_step(checkpoint, validation_due=False)

    def on_train_batch_end(
        self, trainer: LightningTrainer, pl_module: LightningModule, outputs: object, batch: StepBatch, batch_idx: int
    ) -> None:
        """A step is done."""
        step = trainer.global_step
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self.losses[step] = float(np.float32(float(loss)))  # as an event file keeps it
        if step in self.weights_at:
            state = trainable_state(pl_module)
            self.names, self.weights[step] = list(state), tensor_digests(state)
        if step >= self.until:
            trainer.should_stop = True


class RelocatedCheckpointIO(DurableCheckpointIO):
    """Reads a checkpoint for a run whose base and data lie elsewhere; that they are the same has been looked at.

    Args:
        model_id: where the base lies here.
    """

    def __init__(self, model_id: str) -> None:
        super().__init__()
        self.model_id = model_id

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """As the class above, the base's place put in and the data's left out."""
        found = super().load_checkpoint(path, map_location, weights_only)
        if isinstance(base := found.get("identity", {}).get("base"), dict):
            base["model_id"] = self.model_id
        if isinstance(course := found.get("course"), dict):
            for name in (*DATA, *SAID):
                course.pop(name, None)
        return found


# What came of it -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ReplayedLoss:
    """The loss of one step, as it was logged and as it is now."""

    step: int
    was: float
    now: float

    @property
    def difference(self) -> float:
        """As a share of what it was."""
        if self.was == self.now:
            return 0.0
        apart = abs(self.now - self.was) / max(abs(self.was), 1e-12)
        return apart if math.isfinite(apart) else math.inf


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Some steps done again, beside what the certificate says of them.

    Args:
        start: the step of the checkpoint they began from; 0 for the start of the run.
        end: the last of them.
        inexact: why bits cannot be asked for; empty where they are.
        tolerance: largest difference of a loss, as a share of it, where they are not.
        losses: those steps whose loss is known.
        weights: the parameters that differ, by the step after which weights are known.
        adapter: whether the final adapter's file is the same; None where the run's end was not reached.
    """

    start: int
    end: int
    inexact: tuple[str, ...]
    tolerance: float
    losses: tuple[ReplayedLoss, ...]
    weights: Mapping[int, list[str]]
    adapter: bool | None

    @property
    def largest(self) -> float:
        """The largest difference of a loss."""
        return max((loss.difference for loss in self.losses), default=0.0)

    @property
    def same_bits(self) -> bool:
        """Whether all that can be compared is equal to the last bit."""
        return self.largest == 0.0 and not any(self.weights.values()) and self.adapter is not False

    @property
    def compared(self) -> bool:
        """Whether anything can be compared as it is to be: weights count only where bits do."""
        return bool(self.losses) or (bool(self.weights) and not self.inexact)

    @property
    def holds(self) -> bool:
        """Whether it is as the certificate says."""
        return self.compared and (self.same_bits or (bool(self.inexact) and self.largest <= self.tolerance))


def replay_of(
    kept: Certificate,
    done: ReplayedSteps,
    start: int,
    *,
    adapter: str | None,
    inexact: Sequence[str],
    tolerance: float,
) -> Replay:
    """Lay steps that were done again beside a certificate.

    Args:
        kept: the certificate.
        done: what was noted of them.
        start: the step they began from.
        adapter: digest of the adapter that was written behind the last one.
        inexact: why bits cannot be asked for.
        tolerance: largest difference of a loss, as a share of it.
    """
    logged = kept.logged
    ends = kept.weights.adapter is not None and kept.weights.adapter_step == done.until
    return Replay(
        start=start,
        end=done.until,
        inexact=tuple(inexact),
        tolerance=tolerance,
        losses=tuple(
            ReplayedLoss(step=step, was=logged[step], now=loss)
            for step, loss in sorted(done.losses.items())
            if step in logged
        ),
        weights={step: other_tensors(kept.weights, step, now, done.names) for step, now in done.weights.items()},
        adapter=adapter == kept.weights.adapter if ends else None,
    )


def planned_steps(kept: Certificate, usable: Sequence[int], asked_start: int | None, steps: int | None) -> range:
    """The steps to do again: `range(start, end)`, of which `start` is done already.

    Args:
        kept: the certificate.
        usable: steps of the kept checkpoints that lie here and are those of the certificate, in order.
        asked_start: where to begin; None begins at the last checkpoint that another one, or the adapter, follows.
        steps: how many to do; None goes on to the next step whose weights are known, or else whose loss is.
    """
    total = kept.course.get("total_steps")
    last = total if isinstance(total, int) else max([*kept.weights.steps, *kept.logged, 0])
    known = sorted({*kept.weights.steps, *([kept.weights.adapter_step] if kept.weights.adapter_step else [])})
    followed = [step for step in usable if any(step < later <= last for later in known)]
    start = asked_start if asked_start is not None else followed[-1] if followed else 0
    if steps is not None:
        return range(start, min(start + steps, last))
    ahead = [step for step in known if step > start]
    logged = sorted(step for step in kept.logged if step > start)
    # From a checkpoint to the next one; from the start, as a run of days may have it, a few steps.
    end = ahead[0] if ahead and start > 0 else (logged or ahead or [start])[min(4, len(logged or ahead or [start]) - 1)]
    return range(start, min(end, last))
