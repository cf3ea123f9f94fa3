"""A point in time behind which no test begins: a run of many tests then ends before what limits it kills it."""

from __future__ import annotations

import time
from typing import cast

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option `--deadline`."""
    parser.addoption("--deadline", type=float, help="seconds since 1970 (date +%%s), behind which tests are skipped")


@pytest.hookimpl(tryfirst=True)  # before fixtures are prepared, which may take longer than the test
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that would begin behind the deadline."""
    deadline = cast("float | None", item.config.getoption("--deadline"))
    if deadline is not None and time.time() > deadline:
        pytest.skip("not run: no time was left (--deadline)")
