"""Rows of the soak's table: what is promised, and what was seen here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from textwrap import wrap
from typing import Final

PROMISES: Final = {
    1: "exact resume: killed anywhere and resumed is never killed, bit for bit",
    2: "exactly once: every step and conversation once, in order; curves whole",
    3: "crash-safe files: after any death the newest whole checkpoint loads, a good one is never lost",
    4: "never a silent restart, never another run's numbers",
    5: "adapter-only: a file holds what was trained, and gives the same answers when it is loaded",
    6: "bad input: each named with a stable code, nothing put in its place, no hang",
    7: "label mask: only the assistant's words are targets, whatever users type",
    8: "loss invariance: micro-batches and ranks do not show in the gradient",
    9: "out of memory: the effective batch never changes",
    10: "not a number: the run stops, and no such weights are kept",
    11: "no code from data",
    12: "no secrets in any file",
    13: "supply chain: floors and exact versions",
    14: "one writer a run directory; signals to stop lose nothing; a dead rank ends the others",
    15: "memory, descriptors and threads do not grow with steps",
}
"""By the number of the row; those beyond 13 are of the project's own."""

WIDTHS: Final = (38, 6, 58, 46)
"""Of the table's columns, in characters."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one part of the soak has seen.

    Args:
        promise: the number of the promise it is about.
        figure: what was done, in numbers.
        here: what was found.
        held: whether the promise held.
    """

    promise: int
    figure: str
    here: str
    held: bool


def table(rows: Sequence[Row]) -> str:
    """All promises with what was seen of each, those that nobody looked at included."""
    lines = _cells("promise", "", "what was done", "here")
    for number, promise in PROMISES.items():
        seen = [row for row in rows if row.promise == number]
        cells = [("held" if row.held else "BROKEN", row.figure, row.here) for row in seen]
        name = f"{number}. {promise}"
        for held, figure, here in cells or [("-", "not looked at in this soak", "")]:
            lines += _cells(name, held, figure, here)
            name = ""
    return "\n".join(lines)


def _cells(*texts: str) -> list[str]:
    """The lines of one row of the table."""
    wrapped = [wrap(text, width) for text, width in zip(texts, WIDTHS, strict=True)]
    lines = zip_longest(*wrapped, fillvalue="")
    rule = "-+-".join("-" * width for width in WIDTHS)
    return [*(" | ".join(map(str.ljust, line, WIDTHS)).rstrip() for line in lines), rule]
