"""Confusion matrix of an evaluation: predicted against true answers, where there are few true answers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.utilities import rank_zero_info
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextToPath
from PIL import Image

from vlm_lit.files.whole import write_whole
from vlm_lit.metrics.confusion import MOST_ANSWERS, Confusion, confusions
from vlm_lit.plot_style import FAINT, INK, STYLE, short
from vlm_lit.training.callbacks.pictures import (
    AnswerPicture,
    drawn,
    leading_rule,
    logged,
    shown_instead,
    titled,
    without_font_warnings,
)
from vlm_lit.training.evaluation import answer_of, logged_name
from vlm_lit.training.protocols import Predicted

OTHER: Final = "(other)"
"""The column of the answers that are none of the true ones."""

_RIGHT: Final = "#00795a"
_MOST_DRAWN: Final = 12
_LETTERS: Final = 24
_DIGITS: Final = 5
_POINTS: Final = 9
_INCHES_A_CELL: Final = 0.42
_DARK: Final = 0.55  # of the colour map; what is darker takes white writing


class ConfusionMatrix(AnswerPicture):
    """Draws predicted against true answers into TensorBoard; after `test` as `confusion.png` and `confusion.json` too.

    Where a split has more true answers than a table can show, each breakdown that has few enough gets its own; the
    twelve of most items are drawn, and the file holds all.

    Args:
        most_answers: so many different true answers at most.
    """

    def __init__(self, most_answers: int = MOST_ANSWERS) -> None:
        self.most_answers = most_answers

    def draw(self, trainer: LightningTrainer, module: Predicted, split: str) -> None:
        """Draw the largest tables; after a test, keep them all."""
        rule, blind = leading_rule(module), shown_instead(trainer)
        if rule is None:
            return
        # Gathered from all ranks, each question once.
        found = confusions(rule, map(answer_of, module.last_predictions), self.most_answers)
        pictures = []
        for confusion in _largest(found):
            name = logged_name(f"{split}/confusion", confusion.group)
            title = titled(f"{name}: answers as {rule.name} compares them, n = {confusion.n}", blind)
            pictures.append(draw_confusion(confusion, title))
            logged(trainer, name, pictures[-1])
        if split == "test":
            self._keep(Path(trainer.default_root_dir), found, pictures, rule.name)

    def _keep(self, run: Path, found: Sequence[Confusion], pictures: Sequence[Image.Image], metric: str) -> None:
        written = {
            "split": "test",
            "compared_as": metric,
            "most_answers": self.most_answers,
            "tables": [_table(c) for c in found],
        }
        write_whole(run / "confusion.json", json.dumps(written, indent=1, ensure_ascii=False) + "\n")
        picture = run / "confusion.png"
        if len(pictures) < len(found):
            rank_zero_info(
                f"confusion.png shows the {len(pictures)} largest of {len(found)} tables; confusion.json all."
            )
        if pictures:
            together(pictures).save(picture)
            return
        picture.unlink(missing_ok=True)  # an earlier test's would be taken for this one's
        rank_zero_info(f"No confusion.png: there is no table of two to {self.most_answers} true answers to draw.")


def _largest(found: Sequence[Confusion]) -> list[Confusion]:
    """Those that are drawn, in the order they came."""
    kept = sorted(found, key=lambda confusion: -confusion.n)[:_MOST_DRAWN]
    return [confusion for confusion in found if any(confusion is one for one in kept)]


def _table(confusion: Confusion) -> dict[str, object]:
    """A row for each true answer, with how often each answer was predicted there; `others` names what `other` is."""
    c = confusion
    rows = [
        {"true": true, "n": sum(row), "predicted": dict(zip(c.answers, row[:-1], strict=True)), "other": row[-1]}
        for true, row in zip(c.answers, c.counts, strict=True)
    ]
    return {"group": c.group, "n": c.n, "rows": rows, "others": c.others}


def draw_confusion(confusion: Confusion, title: str) -> Image.Image:
    """The picture of `confusion_figure`."""
    with rc_context({**STYLE, "font.size": _POINTS}):
        return drawn(confusion_figure(confusion, title))


def confusion_figure(confusion: Confusion, title: str) -> Figure:
    """A cell for each pair of answers with its count, the darker the larger its share of the row."""
    rows, columns = len(confusion.answers), len(confusion.answers) + 1
    names = distinct_labels(confusion.answers)
    with rc_context({**STYLE, "font.size": _POINTS}):
        label = max(map(_inches, names))
        # A figure is as wide as its title at least; column names lean at 45 degrees.
        width = max(1.4 + label + _INCHES_A_CELL * columns, 0.5 + max(map(_inches, title.splitlines())))
        height = 1.4 + math.sqrt(0.5) * label + _INCHES_A_CELL * rows
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        shares = [[count / (sum(row) or 1) for count in row] for row in confusion.counts]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        _counts(axes, confusion.counts, shares)
        axes.set_yticks(range(rows), [f"{name}  {sum(row)}" for name, row in zip(names, confusion.counts, strict=True)])
        axes.set_xticks(range(columns), [*names, OTHER], rotation=45, ha="right", rotation_mode="anchor")
        axes.tick_params(length=0)
        _lines(axes, rows)
        axes.set_ylabel("true (n)")
        axes.set_xlabel("predicted (colour: share of the row)", loc="right")  # where room is, left of a narrow table
        figure.suptitle(title, fontsize=_POINTS, ha="left", x=0.02)
        return figure


def _inches(line: str) -> float:
    """How wide a line of text is."""
    font = FontProperties(family=rcParams["font.family"], size=_POINTS)
    with without_font_warnings():
        return float(TextToPath().get_text_width_height_descent(line, font, ismath=False)[0]) / 72


def _lines(axes: Axes, rows: int) -> None:
    """A faint grid, a frame around what is right, a line before what is none of the true answers."""
    axes.hlines([y + 0.5 for y in range(rows - 1)], -0.5, rows + 0.5, color=FAINT, linewidth=0.5)
    axes.vlines([x + 0.5 for x in range(rows - 1)], -0.5, rows - 0.5, color=FAINT, linewidth=0.5)
    axes.axvline(rows - 0.5, color=INK, linewidth=0.8)
    for place in range(rows):
        axes.add_patch(
            Rectangle((place - 0.5, place - 0.5), 1, 1, fill=False, edgecolor=_RIGHT, linewidth=1.2, zorder=3)
        )


def _counts(axes: Axes, counts: Sequence[Sequence[int]], shares: Sequence[Sequence[float]]) -> None:
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            if count:
                ink = "white" if shares[y][x] > _DARK else INK
                size = 8 * min(1, _DIGITS / len(str(count)))  # within the cell
                axes.text(x, y, str(count), ha="center", va="center", color=ink, fontsize=size)


def together(pictures: Sequence[Image.Image], columns: int = 2) -> Image.Image:
    """Pictures on one sheet, each at the foot of the column that is shortest so far."""
    heaps: list[list[Image.Image]] = [[] for _ in range(min(columns, len(pictures)))]
    for picture in pictures:
        min(heaps, key=_height).append(picture)
    widths = [max(picture.width for picture in heap) for heap in heaps]
    sheet = Image.new("RGB", (sum(widths), max(map(_height, heaps))), "white")
    for column, heap in enumerate(heaps):
        for place, picture in enumerate(heap):
            sheet.paste(picture, (sum(widths[:column]), _height(heap[:place])))
    return sheet


def _height(heap: Sequence[Image.Image]) -> int:
    return sum(picture.height for picture in heap)


def distinct_labels(answers: Sequence[str]) -> list[str]:
    """A line for each answer, short ones whole; long ones cut where that leaves them different, else numbered."""
    lines = [" ".join(answer.split()) or "(empty)" for answer in answers]
    labels = [short(line, _LETTERS) for line in lines]
    if len(set(labels)) < len(labels):
        labels = [_cut_middle(line) for line in lines]
    again = {label for label in labels if labels.count(label) > 1}
    return [f"{label} #{place}" if label in again else label for place, label in enumerate(labels, 1)]


def _cut_middle(line: str) -> str:
    """Its beginning and its end: answers that begin alike often end otherwise."""
    half = _LETTERS // 2
    return line if len(line) <= _LETTERS else f"{line[: half - 1]}\N{HORIZONTAL ELLIPSIS}{line[-half:]}"
