"""Sampled answers written to their file, a batch at a time, while they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vlm_lit.schema import EvaluationBatch, Prediction
from vlm_lit.training.pairing.answers_file import AnswersFile, AnswersWriter, SampledAnswer


class SampledAnswers(Callback):
    """Adds each batch's answers to a file, and keeps none of them in memory.

    Args:
        file: where they go.
        prompts: what names the question of each record, by the record's id.
    """

    def __init__(self, file: AnswersFile, prompts: Mapping[str, str]) -> None:
        self.file, self.prompts = file, prompts
        self._writer: AnswersWriter | None = None

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        """Open this process's file."""
        self._writer = self.file.writer(trainer.global_rank)

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: EvaluationBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the batch's answers; end here where that was asked for, which Lightning leaves to whoever loops.

        Raises:
            SIGTERMException: SIGTERM came.
        """
        assert self._writer is not None
        predictions: list[Prediction] = pl_module.last_predictions  # type: ignore[assignment]
        self._writer.add([self._sampled(prediction) for prediction in predictions])
        predictions.clear()
        if trainer.received_sigterm:
            raise SIGTERMException

    def _sampled(self, prediction: Prediction) -> SampledAnswer:
        record, _, number = prediction.id.rpartition("#")
        return SampledAnswer(
            id=record,
            sample=int(number),
            prompt=self.prompts[record],
            answer=prediction.prediction,
            unfinished=prediction.unfinished,
        )
