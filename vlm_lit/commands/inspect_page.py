"""The HTML page of an inspection: one file that needs no other, every value escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from vlm_lit.files.page_templates import page_environment
from vlm_lit.models.parts import trainable_percent
from vlm_lit.preflight.inspection.lengths import Lengths
from vlm_lit.preflight.inspection.report import Inspection
from vlm_lit.preflight.inspection.run_report import RunInspection

_TEMPLATE: Final = "inspect_page.html.j2"
_BINS: Final = 32
_WIDTH, _HEIGHT = 720, 120
_LISTED: Final = 50


@dataclass(frozen=True, kw_only=True)
class LengthBar:
    """A bar of the histogram, in the picture's units; `low` to `high` tokens, both included."""

    x: float
    width: float
    height: float
    count: int
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A vertical line in the histogram: where, and what it says."""

    x: float
    text: str
    limit: bool = False


def as_page(inspection: Inspection, template: str = _TEMPLATE) -> str:
    """The inspection as one HTML page, pictures and style included."""
    return page(template, inspection, limit="max_length", supervised=_supervised_percent(inspection))


def page(template: str, inspection: RunInspection, *, limit: str, **more: object) -> str:
    """A report as one HTML page.

    Args:
        template: name of its template.
        inspection: what was found.
        limit: the setting that limits the lengths.
        more: what else the template asks for.
    """
    environment = page_environment(Path(__file__).parent)
    environment.filters["data_url"] = data_url
    return environment.get_template(template).render(
        inspection=inspection,
        rows=list(zip(inspection.parts, _flows(inspection), strict=True)),
        trainable=trainable_percent(inspection.parts),
        histogram={"bars": bars(inspection.lengths), "marks": marks(inspection.lengths, limit)},
        size={"width": _WIDTH, "height": _HEIGHT},
        listed=_LISTED,
        stopping=str(inspection.stopping) if inspection.stopping is not None else None,
        **more,
    )


def data_url(image: Image.Image) -> str:
    """The image as a `data:` address."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _flows(inspection: RunInspection) -> Sequence[object]:
    """What the step did to each part, in the order of the parts; None for all where no step was made."""
    by_part: Mapping[str, object] = {flow.part: flow for flow in inspection.gradients.parts}
    return [by_part.get(row.part) for row in inspection.parts]


def _supervised_percent(inspection: Inspection) -> float:
    shown = [inspected.supervision for inspected in inspection.conversations]
    learned = sum(supervision.count("supervised", "end_of_turn") for supervision in shown)
    return 100.0 * learned / sum(supervision.tokens for supervision in shown)


def _span(lengths: Lengths) -> tuple[int, int]:
    """The histogram's first and last length; the limit is on it where it is not far beyond the data."""
    low, high = lengths.quantile(0), lengths.quantile(1)
    limit = lengths.max_length
    return low, limit if limit is not None and high < limit <= 2 * high else high


def _x(tokens: float, span: tuple[int, int]) -> float:
    return _WIDTH * (tokens - span[0]) / (span[1] + 1 - span[0])


def bars(lengths: Lengths) -> list[LengthBar]:
    """The histogram of the measured lengths, in bins of whole tokens; empty bins are left out."""
    span = _span(lengths)
    step = -(-(span[1] + 1 - span[0]) // _BINS)
    counts = {low: sum(low <= n < low + step for n in lengths.tokens) for low in range(span[0], span[1] + 1, step)}
    tallest = max(counts.values())
    return [
        LengthBar(
            x=_x(low, span),
            width=_x(min(low + step, span[1] + 1), span) - _x(low, span),
            height=_HEIGHT * count / tallest,
            count=count,
            low=low,
            high=low + step - 1,
        )
        for low, count in counts.items()
        if count
    ]


def marks(lengths: Lengths, setting: str) -> list[Mark]:
    """Median, 95 % and, where it is in the picture, the limit that a setting gives."""
    span, limit = _span(lengths), lengths.max_length
    found = [
        Mark(x=_x(lengths.quantile(share) + 0.5, span), text=text) for share, text in ((0.5, "median"), (0.95, "95 %"))
    ]
    if limit is not None and span[0] <= limit <= span[1]:
        found.append(Mark(x=_x(limit + 1, span), text=setting, limit=True))
    return found
