"""Plot of the numbers that answers give against the true ones, where the metric `number` judges them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from lightning.pytorch import Trainer as LightningTrainer
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from vlm_lit.metrics.number import NumberAccuracy
from vlm_lit.metrics.rules import Answer
from vlm_lit.metrics.summary import judged_item, summarised
from vlm_lit.plot_style import COLOURS, FAINT, INK, STYLE
from vlm_lit.training.callbacks.pictures import AnswerPicture, drawn, logged, shown_instead, titled
from vlm_lit.training.evaluation import answer_of
from vlm_lit.training.protocols import Judged, Predicted

FILE: Final = "numbers.png"
_LARGEST: Final = 260.0
"""Area of the largest dot, in square points."""


class NumbersPlot(AnswerPicture):
    """Draws predicted against true numbers into TensorBoard; after `test` as `numbers.png` too.

    Without the metric `number`, or without an answer that gives one, nothing is drawn.
    """

    def draw(self, trainer: LightningTrainer, module: Predicted, split: str) -> None:
        """Draw the plot of the first metric `number`; after a test, keep it."""
        rules = module.judged_by() if isinstance(module, Judged) else []
        rule = next((rule for rule in rules if isinstance(rule, NumberAccuracy)), None)
        answers = [answer_of(prediction) for prediction in module.last_predictions if prediction.references]
        picture = None
        if rule is not None and any(rule.error(answer) is not None for answer in answers):
            picture = draw_numbers(rule, answers, split, titled("", shown_instead(trainer)))
            logged(trainer, f"{split}/numbers", picture)
        if split == "test":
            kept = Path(trainer.default_root_dir) / FILE
            if picture is None:
                kept.unlink(missing_ok=True)  # an earlier test's would be taken for this one's
            else:
                picture.save(kept)


def draw_numbers(rule: NumberAccuracy, answers: Sequence[Answer], split: str, note: str = "") -> Image.Image:
    """A dot for each pair of a true and a predicted number, as large as there are answers, around the diagonal.

    Args:
        rule: reads the numbers, and says which are near enough: the shaded band.
        answers: each with references; those without a number are counted in the title alone.
        split: what the answers are of.
        note: a line below the title.
    """
    found = summarised(rule, [judged_item(rule, answer, answer.id) for answer in answers])
    values, pairs = found.whole.values, Counter[tuple[float, float]]()
    for answer in answers:
        error = rule.error(answer)
        if error is not None:
            truth = rule.truth(answer)
            pairs[truth, truth + error] += 1
    with rc_context({**STYLE, "font.size": 9}):
        figure = Figure(figsize=(5.6, 5.8), layout="constrained")
        axes = figure.subplots()
        low, high = min(map(min, pairs)), max(map(max, pairs))
        room = 0.06 * (high - low) or 0.5
        ends = [low - room, high + room]
        along = np.linspace(ends[0], ends[1], 201)
        band = np.maximum(rule.absolute, rule.relative * np.abs(along))
        axes.fill_between(along, along - band, along + band, color=FAINT, alpha=0.6, linewidth=0)
        axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle="--")
        most = max(pairs.values())
        axes.scatter(
            [true for true, _ in pairs], [said for _, said in pairs],
            s=[max(6.0, _LARGEST * count / most) for count in pairs.values()],
            color=COLOURS[0], alpha=0.55, linewidths=0,
        )  # fmt: skip
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_aspect("equal")
        axes.tick_params(length=0)
        axes.grid(color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.set_xlabel("true number")
        axes.set_ylabel(f"predicted number (largest dot: {most:,} answers)")
        lines = [
            f"{split}: {rule.name} = {values['overall']:.3f}, n = {found.whole.n:,}",
            f"mean absolute error {values['mean_absolute_error']:.3g}, bias {values['bias']:+.3g}; "
            f"{found.unparsed:,} without one number",
        ]
        figure.suptitle("\n".join(filter(None, [*lines, note])), fontsize=9, ha="left", x=0.02)
        return drawn(figure)
