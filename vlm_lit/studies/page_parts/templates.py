"""Jinja templates of the HTML pages: every value escaped, nothing undefined."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vlm_lit.studies.page_parts.wording import bounds, decimal, p_value, percent, points


def environment() -> Environment:
    """Jinja with the filters that pages put figures into words with."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "points": points, "p_value": p_value, "decimal": decimal}
    made.globals |= {"bounds": bounds, "percent": percent, "points": points}
    return made
