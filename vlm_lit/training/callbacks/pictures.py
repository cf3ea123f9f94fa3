"""Base of the callbacks that draw pictures of answers: when they draw, their titles, and their logging."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import numpy as np
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from vlm_lit.data.answers.blind import Blind
from vlm_lit.metrics.rules import Rule
from vlm_lit.training.evaluation import Evaluation
from vlm_lit.training.logged_media import log_picture
from vlm_lit.training.protocols import AsksQuestions, Judged, Predicted

_DOTS_PER_INCH: Final = 120
_SHOWN: Final[Mapping[Blind | None, str]] = {
    None: "",
    "blank": "BLIND (blank): the model was shown grey pictures",
    "shuffle": "BLIND (shuffle): the model was shown other questions' pictures",
    "drop": "BLIND (drop): the model was shown no pictures",
}


class AnswerPicture(Callback):
    """Draws something of the answers of each validation and test, on the process that has all ranks' answers."""

    def on_validation_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Draw the validation's."""
        self._on_end(trainer, pl_module, "val")

    def on_test_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Draw the test's, and keep it in the run directory."""
        self._on_end(trainer, pl_module, "test")

    def _on_end(self, trainer: LightningTrainer, pl_module: LightningModule, split: str) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        # A validation by its loss alone has no answers.
        if isinstance(pl_module, Predicted) and pl_module.last_predictions:
            self.draw(trainer, pl_module, split)

    @abstractmethod
    def draw(self, trainer: LightningTrainer, module: Predicted, split: str) -> None:
        """Draw what there is to see of `module.last_predictions`, each question once."""


def asking(trainer: LightningTrainer) -> AsksQuestions | None:
    """The data module, where it can say what was asked."""
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, AsksQuestions) else None


def shown_instead(trainer: LightningTrainer) -> Blind | None:
    """What an evaluation showed in the images' place; None for the images."""
    data = asking(trainer)
    return data.blind if data is not None else None


def leading_rule(module: object) -> Rule | None:
    """The metric whose scores a module's predictions carry, where it says so."""
    evaluation = getattr(module, "evaluation", None)
    if isinstance(evaluation, Evaluation):
        return evaluation.leading.rule
    return module.judged_by()[0] if isinstance(module, Judged) else None


def what_was_shown(blind: Blind | None) -> str:
    """What a picture's title says of an evaluation without its own images; nothing of any other."""
    return _SHOWN[blind]


def titled(title: str, blind: Blind | None) -> str:
    """A title, and under it what was shown in the images' place."""
    return "\n".join(line for line in (title, what_was_shown(blind)) if line)


def step_of(trainer: LightningTrainer) -> int:
    """The step at which Lightning logs the scores of the answers that were given last."""
    return max(trainer.global_step - 1, 0)


def logged(trainer: LightningTrainer, name: str, picture: Image.Image) -> None:
    """Puts a picture into every logger, at the step where Lightning logs the scores of the same answers."""
    log_picture(trainer.loggers, name, picture, step_of(trainer))


@contextmanager
def without_font_warnings() -> Iterator[None]:
    """No warning of letters that the font does not have; a box stands for each, and the file beside has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def drawn(figure: Figure) -> Image.Image:
    """A figure as a picture."""
    figure.set_dpi(_DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    with without_font_warnings():
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels).convert("RGB")
