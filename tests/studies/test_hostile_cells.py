"""Tests of cells that strangers wrote: no links in Markdown, nothing that steers a terminal."""

from __future__ import annotations

import logging

import pytest

from vlm_lit.commands.quiet import WithoutControls
from vlm_lit.errors import printable
from vlm_lit.studies.page_parts.tables import in_markdown


@pytest.mark.parametrize("cell", ["[x](javascript:alert(1))", "![x](http://e/x.png)", "[x]: javascript:alert(1)"])
def test_no_link_in_markdown(cell: str) -> None:
    (shown,) = in_markdown([cell])
    assert "](" not in shown
    assert "]:" not in shown


def test_an_interval_stays() -> None:
    assert in_markdown(["[48.9, 57.3]"]) == ["[48.9, 57.3]"]


def test_nothing_steers_a_terminal() -> None:
    assert printable("a\x1b[31m\x07\u202eb\udcff") == r"a\x1b[31m\x07\u202eb\udcff"
    assert printable("a\nb", lines=True) == "a\nb"
    assert printable("rot, größer, 赤") == "rot, größer, 赤"


def test_nor_does_a_log_message() -> None:
    record = logging.LogRecord("a", logging.INFO, "a.py", 1, "group %s\nnext", ("\x1b[31mred",), None)
    assert WithoutControls().filter(record)
    assert record.getMessage() == "group \\x1b[31mred\nnext"
