"""Prediction panel: a picture of fixed examples with their answers, the same ones at every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Trainer as LightningTrainer
from PIL import Image, ImageDraw, ImageFont

from vlm_lit.data.images.images import load_images
from vlm_lit.schema import Conversation, Prediction
from vlm_lit.training.callbacks.pictures import AnswerPicture, asking, leading_rule, logged, what_was_shown
from vlm_lit.training.protocols import AsksQuestions, Predicted

_SIDE, _TEXT, _MARGIN = 200, 88, 8
_FONT, _TITLE_FONT, _TITLE_LINE = ImageFont.load_default(11), ImageFont.load_default(14), 18
_RIGHT, _WRONG, _INK = (20, 120, 40), (180, 30, 30), (30, 30, 30)


class PredictionPanel(AnswerPicture):
    """Draws the first questions of different images with their answers, into TensorBoard and as a PNG.

    Args:
        examples: how many questions the panel shows.
    """

    def __init__(self, examples: int = 8) -> None:
        self.examples = examples

    def draw(self, trainer: LightningTrainer, module: Predicted, split: str) -> None:
        """Draw the panel; after a test, keep it as `predictions.png`."""
        data = asking(trainer)
        if data is None:
            return
        shown = fixed_examples(data, split, self.examples)
        by_id = {p.id: p for p in module.last_predictions}
        instead = what_was_shown(data.blind)
        title = f"{instead}, not these" if instead else ""
        rule = leading_rule(module)
        panel = draw_panel(
            [(c, by_id[c.id]) for c in shown if c.id in by_id],
            title=title,
            less_is_better=rule is not None and not rule.higher_is_better,
        )
        if panel is None:
            return
        logged(trainer, f"{split}/predictions", panel)
        if trainer.default_root_dir and split == "test":
            panel.save(Path(trainer.default_root_dir) / "predictions.png")


def fixed_examples(data: AsksQuestions, split: str, n: int) -> list[Conversation]:
    """The first question of each of the first `n` images, so that panels of one data set can be compared."""
    dataset = data.asked(split)
    chosen: dict[str, Conversation] = {}
    for i in range(len(dataset)):
        conversation = dataset[i]
        chosen.setdefault(conversation.image_id or conversation.id, conversation)
        if len(chosen) == n:
            break
    return list(chosen.values())


def draw_panel(
    examples: Sequence[tuple[Conversation, Prediction]],
    columns: int = 4,
    *,
    title: str = "",
    less_is_better: bool = False,
) -> Image.Image | None:
    """Images with question, reference and answer under each; right answers green, wrong ones red.

    A title, where there is one, stands above them in lines as wide as the panel.
    """
    if not examples:
        return None
    columns = min(columns, len(examples))
    rows = -(-len(examples) // columns)
    width, height = _SIDE + 2 * _MARGIN, _SIDE + _TEXT + 2 * _MARGIN
    lines = _lines(title, columns * width - 2 * _MARGIN, _TITLE_FONT) if title else []
    header = len(lines) * _TITLE_LINE + _MARGIN if lines else 0
    sheet = Image.new("RGB", (columns * width, header + rows * height), "white")
    for row, line in enumerate(lines):
        ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN + row * _TITLE_LINE), line, fill=_WRONG, font=_TITLE_FONT)
    for i, (conversation, prediction) in enumerate(examples):
        score = prediction.score or 0.0
        is_right = prediction.score is not None and score < 0.5 if less_is_better else score >= 0.5
        cell = _cell(conversation, prediction, _RIGHT if is_right else _WRONG)
        sheet.paste(cell, ((i % columns) * width + _MARGIN, header + (i // columns) * height + _MARGIN))
    return sheet


def _cell(conversation: Conversation, prediction: Prediction, colour: tuple[int, int, int]) -> Image.Image:
    cell = Image.new("RGB", (_SIDE, _SIDE + _TEXT), "white")
    images = load_images(conversation)
    if images:
        picture = images[0].copy()
        picture.thumbnail((_SIDE, _SIDE))
        if picture.width < _SIDE and picture.height < _SIDE:
            picture = picture.resize(_fitted(picture.size))
        cell.paste(picture, ((_SIDE - picture.width) // 2, 0))
    draw = ImageDraw.Draw(cell)
    top = _SIDE + 4
    for text, ink in (
        (prediction.question, _INK),
        ("expected: " + " | ".join(dict.fromkeys(prediction.references)), _INK),
        ("answered: " + prediction.prediction, colour),
    ):
        top = _write(draw, text, top, ink)
    return cell


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    scale = _SIDE / max(size)
    return round(size[0] * scale), round(size[1] * scale)


def _write(draw: ImageDraw.ImageDraw, text: str, top: int, ink: tuple[int, int, int]) -> int:
    for written in _lines(text, _SIDE, _FONT)[:3]:
        draw.text((0, top), written, fill=ink, font=_FONT)
        top += 13
    return top + 1


def _lines(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
        else:
            lines.append(line)
            line = word
    return [*lines, line]
