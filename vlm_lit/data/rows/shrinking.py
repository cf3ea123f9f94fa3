"""Sizes at which pictures fit into a number of tokens, by arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vlm_lit.data.checkpoint.image_tokens import ImageTokens, Size

STEP: Final = 0.8
"""What a picture's sides are multiplied by, again and again, where only trying it out tells its tokens."""

SMALLEST_SIDE: Final = 16

_FINE: Final = 0.99
_HALVINGS: Final = 12


def fitting_sizes(counted: ImageTokens, sizes: Sequence[Size], most: int) -> list[Size] | None:
    """The largest sizes, all sides by one factor, at which the pictures have at most `most` tokens together.

    Looked for from above, since the tokens of pictures that are cut into tiles do not only fall with their size.

    Args:
        counted: tells tokens by size.
        sizes: the pictures' sizes; they do not fit so.
        most: tokens for all of them.

    Returns:
        Sizes with no side under `SMALLEST_SIDE`; None where none fit.
    """
    smallest = SMALLEST_SIDE / min(min(size) for size in sizes)
    factors = sorted({*_powers(_FINE, smallest), *_powers(STEP, smallest)}, reverse=True)
    found = next((i for i, total in enumerate(_totals(counted, sizes, factors)) if total <= most), None)
    if found is None:
        return None
    fits, above = factors[found], factors[found - 1] if found else 1.0
    for _ in range(_HALVINGS):
        middle = (fits + above) / 2
        if _totals(counted, sizes, [middle])[0] <= most:
            fits = middle
        else:
            above = middle
    return scaled(sizes, fits)


def scaled(sizes: Sequence[Size], factor: float) -> list[Size]:
    """The sizes with both sides times `factor`, in whole pixels."""
    return [(max(1, round(width * factor)), max(1, round(height * factor))) for width, height in sizes]


def _powers(base: float, smallest: float) -> list[float]:
    found, factor = [], base
    while factor >= smallest:
        found.append(factor)
        factor *= base
    return found


def _totals(counted: ImageTokens, sizes: Sequence[Size], factors: Sequence[float]) -> list[int]:
    """The tokens of all pictures together at each factor."""
    counts = counted.of([size for factor in factors for size in scaled(sizes, factor)])
    return [sum(counts[at : at + len(sizes)]) for at in range(0, len(counts), len(sizes))]
