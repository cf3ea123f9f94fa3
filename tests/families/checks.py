"""What is promised of every family: one function a promise. Each returns None, or why the family is refused it.

A refusal counts only where the product has been seen to refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from checks_answers import cached_answers, closed_set, generated, shared_generation
from checks_data import batches, masks, system
from checks_runs import inspected, merged, reloaded, run
from checks_training import cached, checkpointed, gradient_flow, head, packed, paths, quantized
from family_cases import TinyFamily

Check = Callable[[TinyFamily, Path], str | None]

CHECKS: dict[str, Check] = {
    check.__name__.replace("_", " "): check
    for check in (
        paths, masks, system, batches, quantized, gradient_flow, checkpointed, head, generated,
        shared_generation, closed_set, reloaded, merged, run,
        packed, inspected, cached, cached_answers,
    )
}  # fmt: skip
