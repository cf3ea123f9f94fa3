"""Batches that a data worker cannot hand over, mostly since the shared memory they go through has no room.

Python's queue would print a traceback in the worker and lose the batch, for which the run then waits for ever.
"""

from __future__ import annotations

from multiprocessing.queues import Queue
from typing import Any, Final

from vlm_lit.errors import VlmLitError

_REMEDY: Final = (
    "Data workers hand batches over through /dev/shm: give it more room (docker run --shm-size=8g, or mount -o "
    "remount,size=8g /dev/shm), or set data.num_workers to 0, or micro_batch and eval_batch lower."
)


def say_what_is_lost() -> None:
    """Let this process hand over why a batch cannot be handed over, in the batch's place.

    `errors.raised` raises it where the batch arrives.
    """
    Queue._on_queue_feeder_error = _in_its_place  # type: ignore[attr-defined]


def _in_its_place(queue: Queue[Any], error: Exception, item: Any) -> None:  # noqa: ANN401 - an index and a batch
    place = item[0] if isinstance(item, tuple) else item
    why = " ".join(str(error).split())
    queue.put((place, VlmLitError(f"A batch made by a data worker cannot be handed over: {why}. {_REMEDY}")))
