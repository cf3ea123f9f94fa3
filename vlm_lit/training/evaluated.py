"""Evaluation in Lightning's hooks: replies judged, logged and kept for callbacks, and the loss of the true answers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.metrics.catalogue import MetricSettings
from vlm_lit.metrics.rules import Rule
from vlm_lit.models.finite import NonFiniteScoresError
from vlm_lit.schema import EvaluationBatch, Prediction, PromptBatch, Reply
from vlm_lit.settings import as_settings
from vlm_lit.training.asked_questions import AskedQuestions, prediction_of
from vlm_lit.training.checkpointed import CheckpointedModule
from vlm_lit.training.evaluation import Evaluation, chosen_rules, gathered
from vlm_lit.training.evaluation_memory import EvaluationMemory
from vlm_lit.training.running_replies import RunningReplies
from vlm_lit.training.validation_loss import ValidationLoss


class EvaluatedModule(CheckpointedModule):
    """A module that replies to prompts, and whose replies are judged.

    Args:
        metrics: what answers are judged by, the leading one first; null takes vqa_accuracy and exact_match, led by
            vqa_accuracy[normalize=always] where no question has more than one reference.
    """

    evaluation: Evaluation
    validation_loss: ValidationLoss
    last_predictions: list[Prediction]
    last_metrics: dict[str, float]
    _memory: EvaluationMemory

    def __init__(self, model_id: str, *, metrics: list[MetricSettings] | None = None, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(model_id, **settings)
        self.metrics = _metrics(metrics)
        self._asked_together: dict[str, int] = {}
        self._said: set[str] = set()
        chosen_rules(self.metrics)  # refuses what cannot be, before anything is loaded or written

    def judged_by(self, *, one_reference: bool = False) -> list[Rule]:
        """The metrics that replies are judged by, the leading one first."""
        return chosen_rules(self.metrics, one_reference=one_reference)

    dropped_because = "are longer than max_length"
    """Why a record of a validation may have no loss."""

    calibration = "ece"
    """What the calibration error of replies is logged as, where they have a confidence."""

    def replies(self, batch: PromptBatch) -> list[Reply]:
        """The module's replies to a batch of prompts, one a conversation; each kind of module has its own."""
        raise NotImplementedError(f"{type(self).__name__} does not reply. Let it define replies(batch).")

    def predictions(self, prompts: EvaluationBatch) -> list[Prediction]:
        """Replies to a batch of prompts with what they reply to, not yet judged, in the order they were asked for."""
        found = {
            conversation.id: prediction_of(conversation, reply)
            for batch in prompts.batches
            for conversation, reply in zip(batch.conversations, self._named_replies(batch), strict=True)
        }
        return [found[name] for name in prompts.ids]

    def _named_replies(self, batch: PromptBatch) -> list[Reply]:
        try:
            return self.replies(batch)
        except NonFiniteScoresError as error:
            raise error.naming(batch.conversations[row].id for row in error.rows) from error

    def running_replies(self) -> RunningReplies | None:
        """What replies to several batches at a time; None where a batch is replied to before the next one comes."""
        return None

    def _memory_of(
        self,
        split: str,
        take: Callable[[list[Prediction]], object],
        also: Callable[[EvaluationBatch], object] = lambda _: None,
    ) -> EvaluationMemory:
        """What evaluates a split's batches, in the pieces that earlier evaluations of it have found to fit."""
        own = type(self).predictions is EvaluatedModule.predictions
        questions = AskedQuestions(self.predictions, take, also, self.running_replies() if own else None)
        return EvaluationMemory(lambda: self.data, split, self.device, questions, self._asked_together)

    def on_train_start(self) -> None:
        """Find how many questions a validation can ask together, if the config asks for what fits to be found."""
        data = self.data
        if not data.probes_micro_batch or "val" not in data.datasets or not self.trainer.limit_val_batches:
            return
        batches, training = data.evaluation_positions("val"), self.training
        if not batches:  # other ranks have them all
            return
        batch = data.transfer_batch_to_device(data.evaluation_batch("val", batches[0]), self.device, 0)
        assert isinstance(batch, EvaluationBatch)
        self.eval()
        self.on_validation_epoch_start()
        # The first batch is the one of the longest rows. Lightning puts autocast around validation steps alone.
        with torch.no_grad(), self.trainer.precision_plugin.val_step_context():
            self._memory.evaluate(batch, 0)
        self.on_validation_epoch_start()  # nothing of it counts
        self.train(training)

    def on_validation_epoch_start(self) -> None:
        """Begin with no answers and no loss."""
        self.evaluation = Evaluation(self.metrics, self.calibration)
        self.validation_loss = ValidationLoss(self.loss, self.dropped_because)
        self._memory = self._memory_of("val", self.evaluation.add, self._measured)

    def validation_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Answer a batch of prompts and judge the answers; add up the loss of the true ones."""
        trainer = self.trainer
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        self._memory.evaluate(batch, batch_idx, last=_is_last(batch_idx, batches))

    def _measured(self, batch: EvaluationBatch) -> None:
        """Add up the loss of a batch's true answers; where it raises, it has done nothing."""
        self.validation_loss.add(batch)

    def on_validation_epoch_end(self) -> None:
        """Log every metric under `val/`, and `val/loss`."""
        self._finish("val", self._finished_loss("val"))

    def on_test_epoch_start(self) -> None:
        """Begin with no answers and no loss."""
        self.evaluation = Evaluation(self.metrics, self.calibration)
        self.validation_loss = ValidationLoss(self.loss, self.dropped_because)
        self._memory = self._memory_of("test", self.evaluation.add, self._measured)

    def test_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Answer a batch of prompts and judge the answers; add up the loss where the data have it measured."""
        self._memory.evaluate(batch, batch_idx, last=_is_last(batch_idx, self.trainer.num_test_batches))

    def on_test_epoch_end(self) -> None:
        """Log every metric under `test/`, and `test/loss` where it was measured."""
        self._finish("test", self._finished_loss("test"))

    def on_predict_start(self) -> None:
        """Begin with no answers; nothing judges them."""
        self.last_predictions, self.last_metrics = [], {}
        self._memory = self._memory_of("predict", self.last_predictions.extend)

    def predict_step(self, batch: EvaluationBatch, batch_idx: int) -> list[str]:
        """Answer a batch of prompts; whose they are is returned: Lightning takes that apart, and answers are frozen."""
        self._memory.evaluate(batch, batch_idx, last=_is_last(batch_idx, self.trainer.num_predict_batches))
        return batch.ids

    def on_predict_epoch_end(self) -> None:
        """Put all ranks' answers together, unjudged."""
        self.last_predictions = gathered(self.last_predictions, self.ranks, self._places("predict"))

    def _places(self, split: str) -> list[int]:
        """Where the items that this rank was asked stand in the file, in the order it was asked them."""
        return [place for batch in self.data.evaluation_positions(split) for place in batch]

    def _finished_loss(self, split: str) -> dict[str, float]:
        """The loss of a split. What it is not of is said once, and not of the few batches of a sanity check."""
        found = self.validation_loss.finish(self.ranks)
        words = self.validation_loss.said_of(split)
        if words is not None and words not in self._said and not self.trainer.sanity_checking:
            self._said.add(words)
            rank_zero_info(words)
        return found

    def _finish(self, split: str, more: Mapping[str, float] = MappingProxyType({})) -> None:
        self.last_predictions, values = self.evaluation.finish(self.ranks, self._places(split))
        self.last_metrics = {**values, **more}
        shown = {self.evaluation.leading.name, "loss"}
        for name, value in self.last_metrics.items():
            # Every rank has computed the same value from all ranks' items.
            _leave_unadvised(f"{split}/{name}")
            self.log(f"{split}/{name}", value, prog_bar=name in shown, batch_size=1, sync_dist=False)


@cache  # a filter that is set anew lets warnings that were said once be said again
def _leave_unadvised(name: str) -> None:
    """Keep Lightning from advising to average a value over ranks."""
    warnings.filterwarnings("ignore", message=re.escape(f"It is recommended to use `self.log('{name}'"))


def _is_last(batch_idx: int, batches: Sequence[int | float]) -> bool:
    """Whether a batch is the last one of its evaluation, whose loaders have so many."""
    return batch_idx + 1 >= sum(batches)


def _metrics(given: Sequence[Any] | None) -> list[MetricSettings] | None:
    """Metrics as they are given in Python: by name, as settings, or as a mapping of their fields."""
    if given is None:
        return None
    return [
        as_settings(MetricSettings, metric, f"model.metrics[{i}]")
        if isinstance(metric, Mapping) and "class_path" not in metric
        else metric
        for i, metric in enumerate(given)
    ]
