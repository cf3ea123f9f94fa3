"""Jinja templates of the HTML pages: every value escaped, nothing undefined."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment

from vlm_lit.files.page_templates import page_environment
from vlm_lit.studies.page_parts.wording import bounds, decimal, p_value, percent, points


def environment() -> Environment:
    """Jinja with the filters that pages put figures into words with."""
    made = page_environment(Path(__file__).parent)
    made.filters |= {"percent": percent, "points": points, "p_value": p_value, "decimal": decimal}
    made.globals |= {"bounds": bounds, "percent": percent, "points": points}
    return made
