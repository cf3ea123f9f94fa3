"""How long is a run, and which Trainer options mean something else here?

One Lightning batch is one optimizer step and the whole run is one Lightning epoch, so that no partly accumulated
gradient and no epoch border exists for a resumption to fall into. Users keep their habits: `max_epochs: 3` means
three passes over the data, `val_check_interval` counts in passes (a fraction) or in optimizer steps (an integer).
"""

from __future__ import annotations

from typing import Any

import lightning

from vlm_lit.schema import ConfigError


class Trainer(lightning.Trainer):
    """Lightning's Trainer over step windows.

    Args:
        max_epochs: passes over the training data.
        max_steps: optimizer steps after which the run ends, if that is sooner; -1 for no such limit.
        limit_train_batches: optimizer steps of a pass (an integer) or a share of it (a fraction); null for all.
        val_check_interval: validate every so many passes (a fraction) or optimizer steps (an integer).
        check_val_every_n_epoch: validate only after every n-th pass.
        accumulate_grad_batches: not used; say data.effective_batch and data.micro_batch.
        gradient_clip_val: not used; say model.gradient_clip.
        kwargs: everything else Lightning's Trainer takes.
    """

    def __init__(
        self,
        *,
        max_epochs: int | None = 1,
        max_steps: int = -1,
        limit_train_batches: int | float | None = None,
        val_check_interval: int | float | None = None,
        check_val_every_n_epoch: int | None = 1,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: int | float | None = None,
        **kwargs: Any,  # noqa: ANN401 - Lightning's own options, passed through
    ) -> None:
        if accumulate_grad_batches != 1:
            raise ConfigError(
                "trainer.accumulate_grad_batches has no effect here: an optimizer step is a whole window. "
                "Set data.init_args.effective_batch (conversations a step) and data.init_args.micro_batch."
            )
        if gradient_clip_val is not None:
            raise ConfigError("trainer.gradient_clip_val has no effect here; set model.init_args.gradient_clip.")
        self.passes = max_epochs
        self.pass_limit = limit_train_batches
        self.validate_every = val_check_interval if val_check_interval is not None else 1.0
        self.validate_passes = check_val_every_n_epoch or 1
        # The data module shards the data itself: Lightning's sampler would repeat conversations.
        kwargs["use_distributed_sampler"] = False
        super().__init__(max_epochs=1, max_steps=max_steps, **kwargs)

    def validation_steps(self, steps_per_pass: int, total_steps: int) -> int:
        """After how many optimizer steps to validate; never past the run's end."""
        if isinstance(self.validate_every, float):
            steps = max(1, round(steps_per_pass * self.validate_every)) * self.validate_passes
        else:
            steps = self.validate_every
        return min(steps, total_steps)
