"""Reliability diagram: scores against confidences, where answers are chosen from a list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lightning.pytorch import Trainer as LightningTrainer
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vlm_lit.files.whole import write_whole
from vlm_lit.metrics.calibration import Bin, expected_calibration_error
from vlm_lit.plot_style import FAINT, INK, STYLE
from vlm_lit.training.callbacks.pictures import AnswerPicture, drawn, leading_rule, logged, shown_instead, titled
from vlm_lit.training.evaluation import reliability_of
from vlm_lit.training.protocols import Predicted

_COLOUR, _GAP = "#0b61a4", "#c2500a"


class ReliabilityDiagram(AnswerPicture):
    """Draws scores against confidences into TensorBoard; after `test` as `reliability.png` and `reliability.json` too.

    Only answers chosen from a list (`model.answer_from`) have a confidence; without them nothing is drawn.
    """

    def draw(self, trainer: LightningTrainer, module: Predicted, split: str) -> None:
        """Draw the diagram, where answers have a confidence; after a test, keep it."""
        bins = reliability_of(module.last_predictions)
        run = Path(trainer.default_root_dir)
        if not bins:
            if split == "test":  # an earlier test's would be taken for this one's
                for name in ("reliability.png", "reliability.json"):
                    (run / name).unlink(missing_ok=True)
            return
        rule = leading_rule(module)
        metric = rule.name if rule is not None else "score"
        name, error = str(getattr(module, "calibration", "ece")), expected_calibration_error(bins)
        title = f"{split}: {name} = {error:.3f}, {len(bins)} bins, n = {sum(b.n for b in bins)}"
        picture = draw_reliability(bins, titled(title, shown_instead(trainer)), metric)
        logged(trainer, f"{split}/{name.replace('ece', 'reliability', 1)}", picture)
        if split == "test":
            found = {"split": split, "name": name, "ece": error, "score": metric, "bins": [asdict(b) for b in bins]}
            write_whole(run / "reliability.json", json.dumps(found, indent=2) + "\n")
            picture.save(run / "reliability.png")


def draw_reliability(bins: Sequence[Bin], title: str, metric: str) -> Image.Image:
    """The mean score in each bin beside its mean confidence, and under it how many answers the bin has."""
    with rc_context({**STYLE, "font.size": 9}):
        figure = Figure(figsize=(5.6, 5.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _scores(above, bins, metric)
        _counts(below, bins)
        for axes in (above, below):
            axes.set_xlim(0, 1)
            axes.tick_params(length=0)
            axes.grid(axis="y", color=FAINT, linewidth=0.5)
            axes.set_axisbelow(True)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        figure.suptitle(title, fontsize=9, ha="left", x=0.02)
        return drawn(figure)


def _scores(axes: Axes, bins: Sequence[Bin], metric: str) -> None:
    filled = [b for b in bins if b.n]
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", label="as often right as sure")
    lefts, widths = [b.low for b in filled], [b.high - b.low for b in filled]
    scores, sure = [b.score or 0.0 for b in filled], [b.confidence or 0.0 for b in filled]
    axes.bar(lefts, scores, widths, align="edge", color=_COLOUR, alpha=0.35, edgecolor="white", label="mean score")
    axes.vlines(sure, sure, scores, color=_GAP, linewidth=1.5)
    axes.plot(sure, scores, "o", color=_COLOUR, markersize=5, label="at the mean confidence")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel(f"mean {metric}")
    axes.legend(frameon=False, loc="upper left", fontsize=8)


def _counts(axes: Axes, bins: Sequence[Bin]) -> None:
    bars = axes.bar(
        [b.low for b in bins], [b.n for b in bins], [b.high - b.low for b in bins], align="edge", color=_COLOUR,
        edgecolor="white",
    )  # fmt: skip
    axes.bar_label(bars, [str(b.n) if b.n else "" for b in bins], fontsize=8, padding=1)
    axes.margins(y=0.22)
    axes.set_ylabel("answers")
    axes.set_xlabel("confidence: the answer's share among all that could be chosen")
