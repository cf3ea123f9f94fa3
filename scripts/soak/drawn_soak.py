"""Drawn inputs: pictures, records, conversations and configs, each used or refused with its reason."""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any, Final

from hypothesis import given, seed
from hypothesis.strategies import SearchStrategy
from soak_rows import Row

_MOST_MEMORY: Final = 1.5  # GiB
_MOST_SECONDS: Final = 5.0  # for one input


def run(options: argparse.Namespace) -> list[Row]:
    """A row for each kind of input."""
    from tests.support.drawn_inputs import KINDS

    share = -(-options.inputs // len(KINDS))
    return [_row(kind, drawn, look, share, options.seed) for kind, (drawn, look) in KINDS.items()]


def _row(kind: str, drawn: SearchStrategy[Any], look: Callable[[Any], None], count: int, first: int) -> Row:
    from tests.support.drawn_inputs import drawing

    spent, failed = [0.0], ""

    @seed(first)
    @drawing(count)
    @given(drawn)
    def check(value: Any) -> None:  # noqa: ANN401 - whatever was drawn
        begun = time.process_time()
        look(value)
        spent.append(time.process_time() - begun)

    try:
        check()
    except Exception as error:  # what nobody foresaw is what is looked for
        failed = f"{type(error).__name__}: {str(error)[:200]}; "
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    here = f"{failed}{len(spent) - 1:,} looked at, the slowest {max(spent):.2f} s, memory at most {memory:.2f} GiB"
    held = not failed and max(spent) <= _MOST_SECONDS and memory <= _MOST_MEMORY
    return Row(promise=6, figure=f"{count:,} drawn {kind}", here=here, held=held)
