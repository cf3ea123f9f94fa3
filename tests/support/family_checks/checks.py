"""The checks that every family must pass. Each returns None, or why the family is refused what is checked.

A refusal counts only where the product has been seen to refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.family_cases import TinyFamily
from tests.support.family_checks.checks_answers import (
    cached_answers,
    closed_set,
    generated,
    sampled,
    shared_generation,
)
from tests.support.family_checks.checks_boundary import boundary
from tests.support.family_checks.checks_data import batches, masks, system
from tests.support.family_checks.checks_runs import inspected, merged, reloaded, run
from tests.support.family_checks.checks_training import (
    cached,
    checkpointed,
    gradient_flow,
    head,
    in_chunks,
    packed,
    paths,
    quantized,
    read_last,
)

Check = Callable[[TinyFamily, Path], str | None]

CHECKS: dict[str, Check] = {
    check.__name__.replace("_", " "): check
    for check in (
        paths, masks, system, batches, quantized, gradient_flow, checkpointed, head, generated,
        shared_generation, sampled, closed_set, reloaded, merged, run,
        packed, in_chunks, read_last, inspected, cached, cached_answers, boundary,
    )
}  # fmt: skip
