"""Tests with drawn inputs: 2,000 pictures, records, conversations and configs are used or refused, nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.support.drawn_inputs import KINDS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_is_raised(kind: str) -> None:
    drawn, look = KINDS[kind]

    @seed(20261129)
    @settings(
        max_examples=500,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def check(value: Any) -> None:
        look(value)

    check()
