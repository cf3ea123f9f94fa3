"""Pytest plugin: the table of how far runs on several ranks are from the run on one, printed at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_PROPERTY = "ranks x runs"
NoteRanks = Callable[[str, str, str, str], None]


@pytest.fixture
def note_ranks(record_property: Callable[[str, object], None]) -> NoteRanks:
    """Notes of a run, on which ranks it was, what was compared with what, and the largest difference."""
    return lambda run, ranks, compared, found: record_property(_PROPERTY, (run, ranks, compared, found))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    reports = (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ()))
    noted = [value for report in reports for name, value in report.user_properties if name == _PROPERTY]
    if not noted:
        return
    terminalreporter.section("several ranks against one")
    rows = [("run", "ranks", "compared", "largest difference"), *noted]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
