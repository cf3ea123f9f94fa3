"""Cost of what the ranks of `frozen_sharded` tell each other before a layer is gathered, as a share of a step.

    python scripts/cluster/agreement.py --config configs/quickstart.yaml --trainer.max_steps 12 --run_dir runs/agreement

Runs `fit` on two ranks of this machine's CPUs and prints what each rank measured. Options are those of `fit`. Processor
time is what a message costs; its time by the clock has the wait for the other rank in it, which would else be spent at
the next gathering or sum.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

from vlm_lit.cli import main
from vlm_lit.models.sharding import SplitLayers
from vlm_lit.training.supervised import SupervisedModule

_WARM_UP: Final = 2  # steps that are not counted
_ON_TWO: Final = ("--trainer.strategy=frozen_sharded", "--trainer.accelerator=cpu", "--trainer.devices=2")


class Spent:
    """Calls of a function and the seconds in them, of the processor and by the clock."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin again."""
        self.calls, self.processor, self.clock = 0, 0.0, 0.0

    def around(self, function: Callable[..., Any], before: Callable[[], None] = lambda: None) -> Callable[..., Any]:
        """The same function, counted; `before` runs ahead of each call."""

        def counted(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - whatever it takes and gives
            before()
            processor, clock = time.process_time(), time.perf_counter()
            try:
                return function(*arguments, **more)
            finally:
                self.calls += 1
                self.processor += time.process_time() - processor
                self.clock += time.perf_counter() - clock

        return counted


def measured(arguments: list[str]) -> int:
    """A run; the exit status."""
    steps, told, begun = Spent(), Spent(), 0

    def before_step() -> None:
        nonlocal begun
        begun += 1
        if begun == _WARM_UP + 1:
            steps.forget()
            told.forget()

    SupervisedModule.training_step = steps.around(SupervisedModule.training_step, before_step)  # type: ignore[method-assign]
    SplitLayers._wanted_by_all = told.around(SplitLayers._wanted_by_all)  # type: ignore[method-assign]
    status = main(["fit", *arguments, *_ON_TWO])
    if steps.calls:
        print(
            f"Rank {os.environ.get('LOCAL_RANK', '0')}: {steps.calls} steps, {told.calls / steps.calls:.0f} messages "
            f"a step. Processor: {1e6 * told.processor / told.calls:.0f} us a message, "
            f"{told.processor / steps.processor:.2%} of {1e3 * steps.processor / steps.calls:.0f} ms. Clock: "
            f"{1e6 * told.clock / told.calls:.0f} us, {told.clock / steps.clock:.2%} of "
            f"{1e3 * steps.clock / steps.calls:.0f} ms.",
            flush=True,
        )
    return status


if __name__ == "__main__":
    sys.exit(measured(sys.argv[1:]))
