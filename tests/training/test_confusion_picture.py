"""Tests of the confusion matrix's picture: every label and count can be read, and no two touch."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.text import Text
from numpy.typing import NDArray

from vlm_lit.metrics.confusion import Confusion
from vlm_lit.plot_style import STYLE
from vlm_lit.training.callbacks.confusion import confusion_figure, distinct_labels

Corners = NDArray[np.float64]
"""[4, 2] in pixels."""


def table(answers: list[str], count: int) -> Confusion:
    n = len(answers)
    counts = tuple(tuple(count if x in (y, n) else 0 for x in range(n + 1)) for y in range(n))
    return Confusion(group="overall", answers=tuple(answers), counts=counts, others={})


def corners(text: Text, renderer: RendererAgg) -> Corners:
    """Where a text stands; turned ones are boxes that are turned, not the upright ones around them."""
    angle = text.get_rotation()
    x, y = text.get_transform().transform(text.get_position())
    text.set_rotation(0)
    box = text.get_window_extent(renderer)
    text.set_rotation(angle)
    flat = np.array([[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1]]) - (x, y)
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned: Corners = flat @ np.array([[c, s], [-s, c]]) + (x, y)
    return turned


def touch(one: Corners, other: Corners) -> bool:
    """Whether two turned boxes have a point in common: no side of either parts them."""
    sides = [box[i] - box[i - 1] for box in (one, other) for i in range(4)]
    for dx, dy in sides:
        normal = np.array([-dy, dx])
        a, b = one @ normal, other @ normal
        if a.max() < b.min() or b.max() < a.min():
            return False
    return True


@pytest.mark.parametrize(
    ("answers", "count"),
    [
        (
            [f"the {w} tool with a very long name, number {i}" for i, w in enumerate(["hex", "adjustable"] * 10)],
            12,
        ),
        ([f"answer {i}" for i in range(40)], 123),
        (["yes", "no"], 1_234_567),
        ([f"answer {i}" for i in range(20)], 12_345_678),
        (["W" * 60, "W" * 61], 12_345),
    ],
)
def test_no_two_texts_touch_and_no_two_labels_are_the_same(answers: list[str], count: int) -> None:
    with rc_context({**STYLE, "font.size": 9}):
        figure = confusion_figure(table(answers, count), "test/confusion: answers as vqa_accuracy compares them, n = 9")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
        (axes,) = figure.axes
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
        texts = [*labels, *axes.texts, axes.xaxis.label, axes.yaxis.label, *figure.texts]
        boxes = [(text.get_text(), corners(text, renderer)) for text in texts if text.get_text()]
        assert len(boxes) >= 2 * len(answers) + 1 + len(answers)
        assert [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if touch(one, other)] == []
        width, height = canvas.get_width_height()
        for name, box in boxes:
            assert (box.min(axis=0) >= 0).all(), name
            assert (box.max(axis=0) <= (width, height)).all(), name
        shown = [text.get_text() for text in axes.get_xticklabels()]
        assert len(set(shown)) == len(answers) + 1


def test_long_answers_are_cut_where_they_stay_different() -> None:
    assert distinct_labels(["red", "", "a\nb"]) == ["red", "(empty)", "a b"]
    assert distinct_labels(["x" * 30, "y" * 30]) == ["x" * 23 + "…", "y" * 23 + "…"]
    assert distinct_labels(["a long beginning and 1", "a long beginning, and then number 2", "red"]) == [
        "a long beginning and 1", "a long beginning, and t…", "red",
    ]  # fmt: skip
    same = "the very same beginning of number "
    assert distinct_labels([f"{same}{i}" for i in (1, 2)]) == ["the very sa… of number 1", "the very sa… of number 2"]
    assert distinct_labels([f"{'a' * 25}{i}{'b' * 20}" for i in (1, 2)]) == [
        f"{'a' * 11}…{'b' * 12} #1", f"{'a' * 11}…{'b' * 12} #2",
    ]  # fmt: skip
