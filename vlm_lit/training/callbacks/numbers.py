"""Plot of the numbers that answers give against the true ones, where the metric `number` judges them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from lightning.pytorch import Trainer as LightningTrainer
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray
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
_WIDE: Final = 300.0
_MOST_SHOWN: Final = 1e6
"""How many times the smallest number the largest is where axes are logarithmic, and at most on such an axis."""
_REACH: Final = 100.0
"""How many times the largest true number an answer is drawn at most."""


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
    pairs = _within_reach(pairs)
    with rc_context({**STYLE, "font.size": 9}):
        figure = Figure(figsize=(5.6, 5.8), layout="constrained")
        axes = figure.subplots()
        smallest = _smallest_of_wide(pairs)
        ends = _ends(pairs, smallest)
        along = _steps(ends, smallest)
        band = np.maximum(rule.absolute, rule.relative * np.abs(along))
        axes.fill_between(along, along - band, along + band, color=FAINT, alpha=0.6, linewidth=0)
        axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle="--")
        most = max(pairs.values())
        axes.scatter(
            [true for true, _ in pairs], [said for _, said in pairs],
            s=[max(6.0, _LARGEST * count / most) for count in pairs.values()],
            color=COLOURS[0], alpha=0.55, linewidths=0,
        )  # fmt: skip
        if smallest is not None:
            axes.set_xscale("symlog", linthresh=smallest)
            axes.set_yscale("symlog", linthresh=smallest)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
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


def _within_reach(pairs: Counter[tuple[float, float]]) -> Counter[tuple[float, float]]:
    """Answers that are beyond all measure drawn at the edge, so that the others can be seen."""
    reach = _REACH * max(1.0, max(abs(true) for true, _ in pairs))
    found = Counter[tuple[float, float]]()
    for (true, said), count in pairs.items():
        found[true, max(-reach, min(reach, said))] += count
    return found


def _smallest_of_wide(pairs: Iterable[tuple[float, float]]) -> float | None:
    """The smallest size of numbers other than 0 that reach over orders of magnitude, a power of ten; None of others."""
    sizes = [abs(value) for pair in pairs for value in pair if value]
    if not sizes or max(sizes) < _WIDE * min(sizes):
        return None
    return float(10.0 ** math.floor(math.log10(max(min(sizes), max(sizes) / _MOST_SHOWN))))


def _ends(pairs: Iterable[tuple[float, float]], smallest: float | None) -> tuple[float, float]:
    values = [value for pair in pairs for value in pair]
    low, high = min(values), max(values)
    if smallest is not None:
        return (2 * low if low < 0 else -smallest / 2), max(2 * high, smallest)
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room


def _steps(ends: tuple[float, float], smallest: float | None) -> NDArray[np.float64]:
    """Numbers along an axis, as dense where it is logarithmic."""
    even = np.linspace(*ends, 201)
    if smallest is None:
        return even
    sides = [side * np.geomspace(smallest, abs(end), 201) for side, end in zip((-1, 1), ends, strict=True)]
    return np.unique(np.concatenate([np.linspace(-smallest, smallest, 51), *sides]))
