"""The three forms of an inspection of pairs: those of conversations, with what is said of the pairs themselves."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Final

from vlm_lit.commands.inspect_json import as_json
from vlm_lit.commands.inspect_page import as_page
from vlm_lit.commands.inspect_text import as_text, printable
from vlm_lit.preflight.inspection.pair_report import PairInspection

_TEMPLATE: Final = "inspect_pairs.html.j2"


def pair_text(inspection: PairInspection, *, coloured: bool) -> str:
    """The inspection as text."""
    more = {"Pairs": "\n".join(map(printable, inspection.pairs.lines()))}
    return as_text(inspection, coloured=coloured, more=more)


def pair_json(inspection: PairInspection) -> str:
    """The inspection as one JSON object, ASCII only; a pair's sides are its conversations."""
    facts = asdict(inspection.pairs)
    answers = {"measured": len(facts["chosen"])} | {
        f"{side}_median_tokens": median(facts.pop(side)) for side in ("chosen", "rejected")
    }
    return as_json(inspection, more={"pairs": {**facts, "answers": answers}})


def pair_page(inspection: PairInspection) -> str:
    """The inspection as one HTML page, pictures and style included."""
    return as_page(inspection, template=_TEMPLATE)
