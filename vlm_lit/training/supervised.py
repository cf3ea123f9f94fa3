"""How is a model trained to say what the assistant says, and judged by what it then answers?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vlm_lit.data.sampler import derive_seed
from vlm_lit.objectives.cross_entropy import supervised_cross_entropy
from vlm_lit.schema import Batch, Prediction, PromptBatch, StepWindow, VlmLitError
from vlm_lit.training.base import VisionLanguageModule
from vlm_lit.training.evaluation import Evaluation
from vlm_lit.training.optimization import clip, sum_gradients_over_ranks, sum_over_ranks


class SupervisedModule(VisionLanguageModule):
    """Supervised fine-tuning: next-token cross-entropy on the assistant's words, evaluation by greedy answers."""

    evaluation: Evaluation
    last_predictions: list[Prediction]
    last_metrics: dict[str, float]

    # Training: one batch is one optimizer step --------------------------------------------------------------------

    def training_step(self, window: StepWindow, batch_idx: int) -> None:
        """Forward and backward for each micro-batch, then clip, step and schedule, once."""
        tokens = int(sum_over_ranks(window.supervised_tokens, self.device))
        if tokens == 0:
            raise VlmLitError(
                f"Step {self.global_step} has no supervised token, so it has no loss. Its conversations: "
                f"{_listed(window.ids + window.dropped)}. Check their answers, max_length and over_length."
            )
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.zero_grad()
        losses = [self._backward(batch, micro, tokens) for micro, batch in enumerate(window.micro_batches)]
        parameters = self.trainable_parameters()
        sum_gradients_over_ranks(parameters)
        loss = sum_over_ranks(math.fsum(losses), self.device)
        norm = float(clip(parameters, self.gradient_clip))
        self._refuse_non_finite(window, losses, loss, norm)
        self._log_step(loss, norm, optimizer.param_groups)
        optimizer.step()
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
        scheduler.step()

    def _backward(self, batch: Batch, micro: int, tokens: int) -> float:
        # Dropout follows from where the micro-batch stands, not from what ran before, so a resumed run repeats it.
        torch.manual_seed(derive_seed("dropout", self.seed, self.global_step, micro, self.global_rank))
        loss = self.loss(batch) / tokens
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def loss(self, batch: Batch) -> Tensor:
        """Summed cross-entropy of a micro-batch's supervised tokens (a scalar, in nats)."""
        return supervised_cross_entropy(self.hidden_states(batch), batch.labels, self.head)

    def _refuse_non_finite(self, window: StepWindow, losses: list[float], loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        bad = [b.ids for b, value in zip(window.micro_batches, losses, strict=True) if not math.isfinite(value)]
        names = [name for ids in bad for name in ids] or window.ids
        raise VlmLitError(
            f"Step {self.global_step} has loss {loss} and gradient norm {norm}; nothing was stepped. Conversations: "
            f"{_listed(names)}. Lower the learning rate, use bf16 rather than fp16, or look at these records."
        )

    def _log_step(self, loss: float, norm: float, groups: list[dict[str, object]]) -> None:
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        self.log("train/gradient_norm", norm, batch_size=1)
        for group in groups:
            self.log(f"train/learning_rate/{group['name']}", float(group["lr"]), batch_size=1)  # type: ignore[arg-type]

    # Evaluation: answers, not losses ------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Begin with no answers."""
        self.evaluation = Evaluation()

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answer a batch of prompts and judge the answers."""
        self.evaluation.add(self.predictions(batch))

    def on_validation_epoch_end(self) -> None:
        """Log every metric under `val/`."""
        self._finish("val")

    def on_test_epoch_start(self) -> None:
        """Begin with no answers."""
        self.evaluation = Evaluation()

    def test_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answer a batch of prompts and judge the answers."""
        self.evaluation.add(self.predictions(batch))

    def on_test_epoch_end(self) -> None:
        """Log every metric under `test/`."""
        self._finish("test")

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> list[Prediction]:
        """Answers to a batch of prompts, unjudged."""
        return self.predictions(batch)

    def _finish(self, split: str) -> None:
        self.last_predictions, self.last_metrics = self.evaluation.finish()
        for name, value in self.last_metrics.items():
            # Every rank has computed the same value from all ranks' items.
            self.log(f"{split}/{name}", value, prog_bar=name == "vqa_accuracy", batch_size=1, sync_dist=False)


def _listed(ids: list[str]) -> str:
    return ", ".join(ids[:20]) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
