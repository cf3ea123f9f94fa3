"""The three forms of a classifier's inspection: text, JSON, and an HTML page that needs no other file."""

from __future__ import annotations

import textwrap
from typing import Final

from vlm_lit.commands.inspect_json import report
from vlm_lit.commands.inspect_page import page
from vlm_lit.commands.inspect_text import BOLD, paint, printable, quantiles, sections
from vlm_lit.preflight.inspection.class_report import ClassInspection, InspectedQuestion

_TEMPLATE: Final = "inspect_classes.html.j2"
_LISTED: Final = 20
_GREEN, _RED = "1;32", "1;31"


def class_text(inspection: ClassInspection, *, coloured: bool) -> str:
    """The inspection as text: answers that are right in colour, or else in brackets."""
    looked_at = {
        "Questions, as training collates them": _questions(inspection, coloured),
        "Lengths": _lengths(inspection),
    }
    return sections(
        inspection,
        looked_at,
        well="every question has a target and all its words",
        notes=[f"{inspection.answers:,} answers to choose from."],
        coloured=coloured,
    )


def _questions(inspection: ClassInspection, coloured: bool) -> str:
    legend = "words as the model sees them, then [score answer] for each answer that is right"
    return "\n\n".join([legend, *(_question(question, coloured) for question in inspection.questions)])


def _question(question: InspectedQuestion, coloured: bool) -> str:
    (width, height), (own_width, own_height) = question.size, question.file_size
    facts = (
        f"{printable(question.id)}: {len(question.words)} tokens; picture {own_width} x {own_height}, "
        f"as the model sees it {width} x {height}, {question.patches} patches"
    )
    said = [printable(" ".join(question.words))]
    if question.left_out:
        said.append(paint(f"CUT OFF: {printable(question.left_out)}", _RED, coloured))
    targets = [f"[{score:.2g} {printable(answer)}]" for answer, score in question.targets.items()]
    said.append("  ".join(paint(target, _GREEN, coloured) for target in targets) or "NO ANSWER IS RIGHT")
    return f"{paint(facts, BOLD, coloured)}\n{textwrap.indent(chr(10).join(said), '    ')}"


def _lengths(inspection: ClassInspection) -> str:
    lengths, cut = inspection.lengths, inspection.cut
    lines = [
        f"{quantiles(lengths)}; most_words {lengths.max_length}",
        f"measured on {lengths.sample}; {len(cut)} too long",
        *(f"    {printable(name)}: {tokens} tokens" for name, tokens in list(cut.items())[:_LISTED]),
    ]
    more = len(cut) - _LISTED
    return "\n".join([*lines, f"    and {more} more"] if more > 0 else lines)


def class_json(inspection: ClassInspection) -> str:
    """The inspection as one JSON object, ASCII only."""
    lengths = inspection.lengths
    return report(
        inspection,
        {
            "answers": inspection.answers,
            "questions": [_entry(question) for question in inspection.questions],
            "untargeted": inspection.untargeted,
            "cut": inspection.cut,
            "lengths": {
                "measured": len(lengths.tokens),
                "min": lengths.quantile(0),
                "median": lengths.quantile(0.5),
                "max": lengths.quantile(1),
                "most_words": lengths.max_length,
            },
        },
    )


def _entry(question: InspectedQuestion) -> dict[str, object]:
    return {
        "id": question.id,
        "tokens": len(question.words),
        "words": list(question.words),
        "left_out": question.left_out,
        "targets": {answer: round(score, 6) for answer, score in question.targets.items()},
        "file_size": list(question.file_size),
        "size": list(question.size),
        "patches": question.patches,
    }


def class_page(inspection: ClassInspection) -> str:
    """The inspection as one HTML page, pictures and style included."""
    return page(_TEMPLATE, inspection, limit="most_words")
