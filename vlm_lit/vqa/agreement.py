"""Agreement of an answer with the answers that people gave, as VQA v2 counts it.

Source of the definition: GT-Vision-Lab/VQA, `vqaEval.py`, snapshot a013f004.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

Aggregation = Literal["leave_one_out", "min3"]

ENOUGH_MATCHES: Final = 3
"""So many agreeing people make an answer fully right."""


_VILT_SCORES: Final = (0.0, 0.3, 0.6, 0.9, 1.0)
"""By how many people gave an answer; so many or more for the last."""


def agreement(matches: int, n: int, aggregation: Aggregation = "leave_one_out") -> float:
    """The score, a fraction in [0, 1], of an answer that `matches` of `n` people gave.

    `leave_one_out` is the mean over the annotators of min(1, matches among the others / 3): 0, 0.3, 0.6, 0.9, 1 for
    0, 1, 2, 3, >= 4 of ten. `min3` is min(1, matches / 3).

    Fewer than four people are not VQA v2: leaving one out of three could never reach 1. They are the case of data sets
    with a single ground truth, and under either aggregation any match scores 1, none 0.
    """
    return float(matches > 0) if n <= ENOUGH_MATCHES else _AGGREGATIONS[aggregation](matches, n)


def vilt_agreement(matches: int, n: int) -> float:
    """The same by ViLT's table: 0, 0.3, 0.6, 0.9, 1 for 0, 1, 2, 3, >= 4, however many people were asked.

    Source: dandelin/ViLT, `vilt/utils/write_vqa.py` (`get_score`), snapshot 762fd39. Fewer than four people are the
    case of a single ground truth here as well.
    """
    return float(matches > 0) if n <= ENOUGH_MATCHES else _VILT_SCORES[min(matches, len(_VILT_SCORES) - 1)]


def compared_raw(references: Sequence[str]) -> bool:
    """Whether the official code compares these answers as they are written: it does where they are all the same.

    `Yes` against ten `yes` then scores 0.
    """
    return len(set(references)) <= 1


def _leave_one_out(matches: int, n: int) -> float:
    """The mean over annotators in closed form; one division of integers, so that 0.3 is the float 0.3."""
    agreeing = matches * min(ENOUGH_MATCHES, matches - 1)
    others = (n - matches) * min(ENOUGH_MATCHES, matches)
    return (agreeing + others) / (ENOUGH_MATCHES * n)


def min3(matches: int, n: int = 10) -> float:  # noqa: ARG001 - both aggregations take the same two numbers
    """The share of three people that an answer needs."""
    return min(1.0, matches / ENOUGH_MATCHES)


_AGGREGATIONS: Final[dict[str, Callable[[int, int], float]]] = {"leave_one_out": _leave_one_out, "min3": min3}
