"""A pytest plugin: a checkpoint of each family, and what was found of them as one table at the end of the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_families.catalogue import TINY, save

_FOUND: dict[tuple[str, str], str] = {}


@pytest.fixture
def matrix() -> dict[tuple[str, str], str]:
    """What was found, by family and check: `ok`, `FAILED`, or the reason for a refusal."""
    return _FOUND


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved checkpoint of each family."""
    return {name: save(name, tmp_path_factory.mktemp(name)) for name in TINY}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table: a refusal is a number, explained below."""
    if not _FOUND:
        return
    names, checks = (list(dict.fromkeys(key[i] for key in _FOUND)) for i in (0, 1))
    reasons = list(dict.fromkeys(value for value in _FOUND.values() if value not in ("ok", "FAILED")))
    cells = {
        key: value if value in ("ok", "FAILED") else f"[{reasons.index(value) + 1}]" for key, value in _FOUND.items()
    }
    terminalreporter.section("families x checks")
    rows = [("family", *checks), *((name, *(cells.get((name, check), "-") for check in checks)) for name in names)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for number, reason in enumerate(reasons, 1):
        terminalreporter.line(f"[{number}] refused: {reason}")
