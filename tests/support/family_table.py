"""Pytest plugin of the family checks: a checkpoint of each family, and the table printed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.tiny_families.catalogue import TINY, save

_PROPERTY = "family x check"
Note = Callable[[str, int, str, str], None]


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Note:
    """Notes of a family, a check's place and name, and what was found: `ok`, `FAILED`, or why it is refused.

    It travels with the test's report, from whichever process ran it; what is noted last holds.
    """
    return lambda family, place, check, found: record_property(_PROPERTY, (family, place, check, found))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved checkpoint of each family."""
    return {name: save(name, tmp_path_factory.mktemp(name)) for name in TINY}


def _noted(reporter: pytest.TerminalReporter) -> Iterator[tuple[str, int, str, str]]:
    for report in (*reporter.stats.get("passed", ()), *reporter.stats.get("failed", ())):
        yield from (value for name, value in report.user_properties if name == _PROPERTY)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table: a refusal is a number, explained below."""
    noted = list(_noted(terminalreporter))
    if not noted:
        return
    found = {(family, check): what for family, _, check, what in noted}
    names = [name for name in TINY if any(name == family for family, _ in found)]
    checks = list(dict.fromkeys(check for _, check in sorted({(place, check) for _, place, check, _ in noted})))
    reasons = list(dict.fromkeys(value for value in found.values() if value not in ("ok", "FAILED")))
    cells = {
        key: value if value in ("ok", "FAILED") else f"[{reasons.index(value) + 1}]" for key, value in found.items()
    }
    terminalreporter.section("families x checks")
    rows = [("family", *checks), *((name, *(cells.get((name, check), "-") for check in checks)) for name in names)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for number, reason in enumerate(reasons, 1):
        terminalreporter.line(f"[{number}] refused: {reason}")
