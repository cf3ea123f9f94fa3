"""Training step: one batch is one optimizer step, whatever its loss; halved where memory runs out."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from vlm_lit.data.sampler import derive_seed
from vlm_lit.errors import VlmLitError, listed
from vlm_lit.schema import MicroBatch, StepBatch
from vlm_lit.training.checkpointed import CheckpointedModule
from vlm_lit.training.identity import other_micro_batches
from vlm_lit.training.memory import is_out_of_memory, most_rows
from vlm_lit.training.optimizer_memory import FirstStep, before_first_step, stepped
from vlm_lit.training.ranks import warn

_EMPTY: Final = 20
"""Steps without a loss, from a process's first one on, after which a run is given up."""


class StepModule(CheckpointedModule):
    """A module whose training step is one optimizer step.

    The loss of each micro-batch is a sum; the step divides it by the weight of the whole step batch over all ranks, so
    that neither the size of micro-batches nor the number of ranks shows in it. `weighed_in` is what the weight counts.
    """

    weighed_in = "supervised token"
    unweighed_remedy = "Check their answers, max_length and over_length."
    """What to do where a step has none."""

    _unlearned: int | None = 0
    """Steps without a loss since this process began; None once there was one with."""
    _stepped = False

    def training_step(self, step_batch: StepBatch[Any], batch_idx: int) -> Tensor | None:
        """Forward and backward for each micro-batch, then clip, step and schedule, once.

        Returns:
            The step's loss (a scalar); None where nothing in the step batch can be learned.
        """
        ranks = self.ranks
        weight = int(ranks.sum(step_batch.weight))
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.zero_grad()
        if weight == 0:
            self._refuse_emptiness(step_batch)
            self._log_rates(optimizer.param_groups)
            self._step(optimizer)  # without a gradient it changes no weight and no moment, and counts
            return None
        self._unlearned = None
        step_batch, losses = self._accumulate(step_batch, weight)
        parameters = self.trainable_parameters()
        ranks.sum_gradients(parameters)
        loss = ranks.sum(math.fsum(losses))
        norm = ranks.clip(parameters, self.gradient_clip)
        self._refuse_non_finite(step_batch, losses, loss, norm)
        self.log("train/micro_batch", float(self.data.micro_batch.rows), batch_size=1)
        self._log_step(loss, norm, optimizer.param_groups)
        first = None if self._stepped else before_first_step(optimizer.optimizer, parameters)
        self._step(optimizer, first)
        self._stepped = True
        return torch.tensor(loss, dtype=torch.float64)

    def _step(self, optimizer: LightningOptimizer, first: FirstStep | None = None) -> None:
        """Step weights and schedule."""
        stepped(optimizer.step, first, self.global_step)
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
        scheduler.step()

    def _refuse_emptiness(self, step_batch: StepBatch[Any]) -> None:
        """Say that a step has nothing to learn, which the over-length policy may make of one.

        Raises:
            VlmLitError: so far that is all of them, and they are many.
        """
        said = (
            f"Step {self.global_step} has no {self.weighed_in}, so it has no loss. Its conversations: "
            f"{listed(step_batch.ids + step_batch.dropped)}."
        )
        if self._unlearned is not None:
            self._unlearned += 1
            if self._unlearned >= min(_EMPTY, self.data.total_steps):
                raise VlmLitError(
                    f"{said} Nor had the steps before it in this process: nothing is learned. {self.unweighed_remedy}"
                )
        rank_zero_warn(f"{said} The weights stay as they are.")
        # Lightning would log the step before's figures again.
        for name in [name for name in self.trainer.fit_loop._results if name.startswith("training_step.")]:
            del self.trainer.fit_loop._results[name]

    def _accumulate(self, step_batch: StepBatch[Any], weight: int) -> tuple[StepBatch[Any], list[float]]:
        """Each micro-batch's share of the loss, its gradients added up; in smaller micro-batches if memory runs out."""
        while True:
            try:
                return step_batch, [
                    self._backward(b, micro, weight) for micro, b in enumerate(step_batch.micro_batches)
                ]
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())[:200]
            self._forget_gradients()
            # A step batch that a worker had made before another step's halving is only made anew.
            if step_batch.rows <= self.data.micro_batch.rows:
                self._halve(reason)
            step_batch = self._made_anew()

    def _halve(self, reason: str) -> None:
        """Let micro-batches have half as many rows from now on.

        Raises:
            VlmLitError: a single row does not fit.
        """
        rows = self.data.micro_batch.rows
        if rows == 1:
            raise VlmLitError(
                f"Out of memory at step {self.global_step} with a single row ({reason}). Lower max_length, the images' "
                "size or questions_per_row, or store the model in fewer bits."
            )
        self.data.micro_batch.rows = rows // 2
        warn(f"Out of memory with {rows} rows at step {self.global_step}; micro_batch is now {rows // 2}.")

    def _made_anew(self) -> StepBatch[Any]:
        """This step's conversations in micro-batches as large as they may be now."""
        step_batch = self.data.step_batch(self.global_step)
        if step_batch is None:
            raise VlmLitError(f"Out of memory at step {self.global_step} of a stream. Set micro_batch lower.")
        moved: StepBatch[Any] = self.data.transfer_batch_to_device(step_batch, self.device, 0)  # type: ignore[assignment]
        return moved

    def _forget_gradients(self) -> None:
        for parameter in self.trainable_parameters():
            parameter.grad = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def on_train_start(self) -> None:
        """Find the micro-batch that fits, if the config asks for that, and what fits in a validation."""
        if self.data.probes_micro_batch:
            share = -(-self.data.effective_batch // self.ranks.world)
            rows = most_rows(self._try_rows, share, self.device)
            self.data.micro_batch.rows = rows
            fit = self.ranks.each(rows)
            alike = len(set(fit)) == 1
            said = f"{rows} rows fit in memory" if alike else f"{', '.join(map(str, fit))} rows, by rank, fit"
            rank_zero_info(f"micro_batch: {said}")
        if self.kept_course is not None and (words := other_micro_batches(self.kept_course, self.data)) is not None:
            rank_zero_info(words)
        super().on_train_start()

    def _try_rows(self, rows: int) -> None:
        self.data.micro_batch.rows = rows
        step_batch = self.data.longest_step(rows)
        if step_batch is None:
            raise VlmLitError("micro_batch: auto cannot look at the longest rows of a stream. Set a number.")
        self.data.transfer_batch_to_device(step_batch, self.device, 0)
        try:
            # Lightning puts autocast around training steps alone, and this is none.
            with self.trainer.precision_plugin.train_step_context():
                for batch in step_batch.micro_batches:
                    self._backward(batch, 0, max(1, step_batch.weight))
        finally:
            self._forget_gradients()

    def _backward(self, batch: MicroBatch, micro: int, weight: int) -> float:
        # Dropout follows from where the micro-batch stands, not from what ran before, so a resumed run repeats it.
        ranks = self.ranks
        torch.manual_seed(derive_seed("dropout", self.seed, self.global_step, micro, ranks.rank))
        loss = self.loss(batch) / weight
        ranks.backward(loss)
        return float(loss.detach())

    def _refuse_non_finite(self, step_batch: StepBatch[Any], losses: list[float], loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        bad = [b.ids for b, value in zip(step_batch.micro_batches, losses, strict=True) if not math.isfinite(value)]
        names = [name for ids in bad for name in ids] or step_batch.ids
        raise VlmLitError(
            f"Step {self.global_step} has loss {loss} and gradient norm {norm}; nothing was stepped. Conversations: "
            f"{listed(names)}. Lower the learning rate, use bf16 rather than fp16, or look at these records."
        )

    def _log_step(self, loss: float, norm: float, groups: list[dict[str, object]]) -> None:
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        self.log("train/gradient_norm", norm, batch_size=1)
        self._log_rates(groups)

    def _log_rates(self, groups: list[dict[str, object]]) -> None:
        for group in groups:
            self.log(f"train/learning_rate/{group['name']}", float(group["lr"]), batch_size=1)  # type: ignore[arg-type]
