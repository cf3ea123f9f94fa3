"""Work on many items in processes of its own, with a progress bar where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Final, TypeVar, cast

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vlm_lit.data.workers import leave_interrupts, usable_cores
from vlm_lit.errors import VlmLitError

Result = TypeVar("Result")

FEW: Final = 2000
"""Items that are done sooner than processes are started: this process does them, without a bar."""

_MOST_PROCESSES: Final = 8
_CHUNK: Final = 64


class _Chunks(Dataset[object]):
    def __init__(self, work: Callable[[range], object], n: int) -> None:
        self.work = work
        self.rows = [range(at, min(at + _CHUNK, n)) for at in range(0, n, _CHUNK)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> object:
        try:
            return self.work(self.rows[index])
        except VlmLitError as error:  # raised in there, it would reach the user as a page of traceback
            return error


def mapped(work: Callable[[range], Result], n: int, *, what: str) -> Iterator[Result]:
    """What `work` makes of each chunk of `range(n)`, in order.

    Args:
        work: what is done with a chunk; it runs in several processes where there are many items.
        n: how many items there are.
        what: the items' name, for the bar.

    Raises:
        VlmLitError: the first that `work` raised.
    """
    chunks = _Chunks(work, n)
    if n < FEW:
        yield from (work(rows) for rows in chunks.rows)
        return
    loader: DataLoader[object] = DataLoader(
        chunks,
        batch_size=None,
        num_workers=_processes(),
        collate_fn=_as_it_is,
        worker_init_fn=_begin,
        generator=torch.Generator(),  # the loader draws from it: the run's own would no longer be what its seed says
    )
    with tqdm(total=n, desc=f"Checking {what}", unit=f" {what}", disable=not _watched(), leave=False) as bar:
        for rows, found in zip(chunks.rows, loader, strict=True):
            if isinstance(found, VlmLitError):
                raise found
            bar.update(len(rows))
            yield cast(Result, found)


def _processes() -> int:
    return min(usable_cores(), _MOST_PROCESSES)


def _watched() -> bool:
    return sys.stderr.isatty()


def _as_it_is(item: object) -> object:
    return item


def _begin(_worker: int) -> None:
    leave_interrupts()
