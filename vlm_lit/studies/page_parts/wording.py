"""Wording of figures and verdicts: scores in percent, differences in percentage points."""

from __future__ import annotations

from collections.abc import Callable

SIGNIFICANT = 0.05
"""Largest p value, corrected where several were asked for, that makes a verdict."""

FEWEST_IMAGES = 30
"""Fewer images are no evidence about other images: what is rare among them is not there at all."""

FEWEST_SEEDS = 3
"""Fewer seeds are no evidence about training again."""


def percent(fraction: float) -> str:
    """`0.5309` as `53.1`."""
    return f"{round(100 * fraction, 1) + 0.0:.1f}"


def points(fraction: float) -> str:
    """A difference with its sign; what rounds to nothing has none."""
    rounded = round(100 * fraction, 1)
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.0"


def decimal(value: float) -> str:
    """`-0.051` as `-0.05`; `+ 0.0` keeps what rounds to nothing from having a sign."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")


def p_value(p: float) -> str:
    """`0.034`; what is smaller than shown says so."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict(
    a: str,
    b: str,
    *,
    difference: float,
    p: float | None,
    p_corrected: float | None,
    mde: float | None,
    images: int,
    less_is_better: bool = False,
) -> str:
    """Who is better, in words, or how large a difference would have been seen.

    Args:
        a: the first system's name.
        b: the second one's.
        difference: mean score of a - b, a fraction.
        p: of the difference alone; None where nothing can be said of other images.
        p_corrected: by Holm, for all differences asked for together.
        mde: the smallest true difference that would be found in four trials of five.
        images: how many the difference was measured on.
        less_is_better: whether the lower score is the better one.
    """
    if p is None or p_corrected is None or mde is None:
        return "not judged (one image only)"
    if p_corrected <= SIGNIFICANT:
        ahead = a if (difference > 0) is not less_is_better else b
        return f"{ahead} better" if images >= FEWEST_IMAGES else f"{ahead} ahead (only {images} images: no evidence)"
    alone = ", after Holm's correction" if p <= SIGNIFICANT else ""
    return f"no difference detectable (MDE {100 * mde:.1f} points{alone})"


def sentence(
    a: str,
    b: str,
    *,
    difference: float,
    interval: tuple[float, float] | None,
    judged: str,
    is_corrected: bool,
    less_is_better: bool = False,
) -> str:
    """A verdict with its figures, as one would say it.

    Args:
        a: the first system's name.
        b: the second one's.
        difference: mean score of a - b, a fraction.
        interval: of that, as the verdict is corrected.
        judged: the verdict.
        is_corrected: whether the interval is wider for other differences asked for together.
        less_is_better: whether the lower score is the better one.
    """
    if interval is None:
        return f"{a} scores {points(difference)} points against {b}; {judged}."
    name = "95 % interval with Holm's correction" if is_corrected else "95 % interval"
    low, high = interval
    if judged.endswith(" better"):
        if (difference < 0) is not less_is_better:
            a, b = b, a
        if difference < 0:
            difference, low, high = -difference, -high, -low
        return f"{a} is better than {b} by {percent(difference)} points ({name} {percent(low)} to {percent(high)})."
    return f"{a} against {b}: {judged}; {points(difference)} points ({name} {points(low)} to {points(high)})."


def bounds(interval: tuple[float, float] | None, shown: Callable[[float], str]) -> str:
    """`[48.9, 57.3]`; empty where there is no interval."""
    return "" if interval is None else f"[{shown(interval[0])}, {shown(interval[1])}]"
