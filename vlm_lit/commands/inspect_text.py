"""The terminal form of an inspection, supervised tokens in colour or in brackets."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from vlm_lit import errors
from vlm_lit.models.parts import format_table
from vlm_lit.preflight.inspection.conversations import Kind, Segment
from vlm_lit.preflight.inspection.gradient_flow import GradientFlow
from vlm_lit.preflight.inspection.lengths import Lengths, Measured
from vlm_lit.preflight.inspection.report import Inspected, Inspection
from vlm_lit.preflight.inspection.run_report import RunInspection

_WIDTH: Final = 100
_LISTED: Final = 20
BOLD: Final = "1"
_COLOURS: Final[dict[Kind, str]] = {"supervised": "1;32", "end_of_turn": "1;35", "image": "36", "prompt": "2"}
_BRACKETS: Final[dict[Kind, tuple[str, str]]] = {"supervised": ("[", "]"), "end_of_turn": ("{", "}")}


def as_text(inspection: Inspection, *, coloured: bool, more: Mapping[str, str] = MappingProxyType({})) -> str:
    """The inspection as text: supervised tokens in colour, or else in brackets.

    `more` are by their titles the sections that come before the conversations.
    """
    looked_at = {
        **more,
        "Conversations, as training collates them": _conversations(inspection.conversations, coloured),
        "Lengths": _lengths(inspection.lengths, inspection.misfits),
    }
    well = "every end of turn is supervised"
    return sections(inspection, looked_at, well=well, notes=inspection.template, coloured=coloured)


def sections(
    inspection: RunInspection,
    looked_at: Mapping[str, str],
    *,
    well: str,
    coloured: bool,
    notes: Sequence[str] = (),
) -> str:
    """A report as text.

    Args:
        inspection: what was found.
        looked_at: by their titles the sections about the items that were looked at.
        well: what is right about these where nothing is wrong.
        coloured: whether titles are.
        notes: what is to be said of the run, a sentence each.
    """
    said = {
        "Run": "\n".join([_run(inspection), *map(printable, notes)]),
        "Parts": format_table(inspection.parts),
        **looked_at,
        "Keys and words": "\n".join(map(printable, inspection.findings.lines()))
        or "Every key that is not known to be harmless is used.",
        "Gradient flow, one step": _flow(inspection.gradients),
        "Verdict": _verdict(inspection, well),
    }
    return "\n".join(f"{paint(title, BOLD, coloured)}\n{body}\n" for title, body in said.items())


def printable(text: str) -> str:
    """`text` with what would steer a terminal written out; line breaks stay."""
    return errors.printable(text, lines=True)


def paint(text: str, colour: str, coloured: bool) -> str:
    """`text` in a terminal's colour or, where nothing is coloured, as it is."""
    return f"\x1b[{colour}m{text}\x1b[0m" if coloured else text


def _run(inspection: RunInspection) -> str:
    return (
        f"{inspection.model_id} ({inspection.model_type}), {inspection.steps:,} optimizer steps of "
        f"{inspection.effective_batch} {inspection.items}, {inspection.precision} on {inspection.device}"
    )


def _conversations(shown: Sequence[Inspected], coloured: bool) -> str:
    names = ("supervised", _COLOURS["supervised"]), ("end of turn", _COLOURS["end_of_turn"]), ("image", "36")
    legend = "  ".join(paint(name, colour, True) for name, colour in names) + "  the rest is prompt"
    if not coloured:
        legend = "[supervised]  {end of turn}  the rest is prompt"
    return "\n\n".join([legend, *(_conversation(inspected, coloured) for inspected in shown)])


def _conversation(inspected: Inspected, coloured: bool) -> str:
    supervision, images = inspected.supervision, inspected.images
    facts = (
        f"{printable(inspected.id)}: {supervision.tokens} tokens, {supervision.supervised_share:.1%} supervised; "
        f"{sum(supervision.end_of_turn)} of {len(supervision.end_of_turn)} ends of turn supervised; "
        f"{images.placeholders} image placeholders, {images.features} {images.unit}"
        + ("" if images.fits else " - THEY DIFFER")
    )
    # A line a turn, whatever the template does.
    said = "".join(
        _segment(segment, coloured) + ("\n" if segment.kind == "end_of_turn" else "")
        for segment in supervision.segments
    ).rstrip("\n")
    return f"{paint(facts, BOLD, coloured)}\n{textwrap.indent(said, '    ')}"


def _segment(segment: Segment, coloured: bool) -> str:
    text = f"<{segment.tokens} x image>" if segment.kind == "image" else printable(segment.text)
    if coloured:
        return paint(text, _COLOURS[segment.kind], True)
    opening, closing = _BRACKETS.get(segment.kind, ("", ""))
    return f"{opening}{text}{closing}"


def quantiles(lengths: Lengths) -> str:
    """How lengths are spread, in words."""
    return (
        f"min {lengths.quantile(0)}, median {lengths.quantile(0.5)}, 95 % {lengths.quantile(0.95)}, "
        f"max {lengths.quantile(1)} tokens"
    )


def _lengths(lengths: Lengths, misfits: Sequence[Measured]) -> str:
    limit = f"max_length {lengths.max_length}" if lengths.max_length is not None else "no max_length"
    lines = [
        f"{quantiles(lengths)}; {limit}, over_length: {lengths.over_length}",
        f"measured on {lengths.sample}; {len(misfits)} too long",
        *(f"    {printable(m.conversation.id)} {_OUTCOMES[m.outcome]}: {m.reason}" for m in misfits[:_LISTED]),
    ]
    more = len(misfits) - _LISTED
    return "\n".join([*lines, f"    and {more} more"] if more > 0 else lines)


_OUTCOMES: Final = {"changed": "changed", "dropped": "dropped", "stops": "stops the run"}


def _flow(flow: GradientFlow) -> str:
    rows = [("part", "trainable moved", "frozen moved", "gradient norm")]
    for part in flow.parts:
        norm = f"{part.gradient:.3g}" if part.trainable else "-"
        rows.append((part.part, f"{part.moved} of {part.trainable}", f"{part.frozen_moved} of {part.frozen}", norm))
    return "\n".join(_aligned(rows))


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))


def _verdict(inspection: RunInspection, well: str) -> str:
    problems = [printable(problem) for problem in inspection.problems]
    if inspection.stopping is not None:
        problems.append(printable(str(inspection.stopping)))
    if not problems:
        return f"All is well: every trainable parameter moves and no other, {well}."
    return "\n".join(
        textwrap.fill(problem, _WIDTH, initial_indent="- ", subsequent_indent="  ") for problem in problems
    )
