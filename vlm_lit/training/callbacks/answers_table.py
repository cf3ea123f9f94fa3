"""Table of the first answers (question, true answer, answer) of an evaluation, in every logger."""

from __future__ import annotations

from lightning.pytorch import Trainer as LightningTrainer

from vlm_lit.errors import ConfigError
from vlm_lit.training.callbacks.pictures import AnswerPicture, step_of
from vlm_lit.training.logged_media import log_table
from vlm_lit.training.protocols import Predicted

_HEADER = ("id", "question", "expected", "answered", "score")


class AnswersTable(AnswerPicture):
    """Logs the first answers of each validation and test as a table, `val/answers` and `test/answers`.

    Args:
        rows: how many; a run's predictions file has all of them.
    """

    def __init__(self, rows: int = 100) -> None:
        if rows < 1:
            raise ConfigError(f"AnswersTable: rows is {rows}; it must be at least 1.")
        self.rows = rows

    def draw(self, trainer: LightningTrainer, module: Predicted, split: str) -> None:
        """Log the table."""
        rows = [
            (p.id, p.question, " | ".join(dict.fromkeys(p.references)), p.prediction, p.score)
            for p in module.last_predictions[: self.rows]
        ]
        log_table(trainer.loggers, f"{split}/answers", _HEADER, rows, step_of(trainer))
