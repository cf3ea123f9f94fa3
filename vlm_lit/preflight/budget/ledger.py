"""Ledger of the bytes alive at once while code runs, and of their growth with a micro-batch's rows.

Every tensor that an operation makes is entered when it is made and struck out when its storage is freed, whoever held
it: autograd, bitsandbytes' layers (which keep inputs where autograd's hooks do not see them), autocast's cache, or a
local variable. That works on real tensors as on fake ones.

Some work is done picture by picture: Qwen's attention, Pixtral's tower, LLaVA-NeXT's joining of tiles. What it makes is
no multiple of the rows, and yet there is one of it for each. It is known by what it is made from, which is a row's part
of a tensor that grows with the rows, and is entered for that row. With one row there is what the fullest row has, and
each further row adds what the others have on average.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_PRIMES: Final = (13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101)


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """Bytes that are there whatever the micro-batch, and bytes for each of its rows."""

    fixed: int = 0
    per_row: int = 0

    def at(self, rows: int) -> int:
        """The sum with `rows` rows."""
        return self.fixed + rows * self.per_row


@dataclass(frozen=True)
class Peak:
    """The most that is alive at once: at every moment a sum that grows with the rows, of which the largest counts."""

    moments: tuple[Bytes, ...]

    def at(self, rows: int) -> int:
        """The most with `rows` rows."""
        return max((moment.at(rows) for moment in self.moments), default=0)


_NONE: Final = range(0)


@dataclass(frozen=True)
class _Entry:
    """A storage that is alive: whether it grows with the rows, or of the part of which rows it was made."""

    storage: weakref.ref[torch.UntypedStorage]
    grows: bool
    part: range


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is made while it is entered.

    Args:
        rows: rows of the micro-batch; a storage whose size is a multiple is taken to grow with them.
        outside: tensors that are counted elsewhere: parameters, gradients, optimizer states.
    """

    def __init__(self, rows: int, outside: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows = rows
        self._fixed = self._growing = 0
        self._of_rows = [0] * rows
        self._alive: dict[int, _Entry] = {}
        self._moments: dict[int, int] = {}
        self._outside = {tensor.untyped_storage()._cdata for tensor in outside}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self._enter(made, args)
        elif isinstance(made, tuple | list):
            for tensor in made:
                if isinstance(tensor, Tensor):
                    self._enter(tensor, args)
        return made

    @property
    def now(self) -> Bytes:
        """What is alive."""
        fullest = max(self._of_rows)
        further = (sum(self._of_rows) - fullest) // max(1, self.rows - 1)
        return Bytes(fixed=self._fixed + fullest - further, per_row=self._growing // self.rows + further)

    @property
    def peak(self) -> Peak:
        """The most that was alive at once."""
        kept: list[Bytes] = []
        for per_row, fixed in sorted(self._moments.items(), reverse=True):
            if not kept or fixed > kept[-1].fixed:
                kept.append(Bytes(fixed=fixed, per_row=per_row))
        return Peak(tuple(kept))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._alive.clear()  # so that nothing is struck out any more

    def _enter(self, tensor: Tensor, made_of: object) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive or key in self._outside:
            return
        size = storage.nbytes()
        grows = size % self.rows == 0
        part = _NONE if grows else self._part_of(made_of)

        def strike_out(_: weakref.ref[torch.UntypedStorage]) -> None:
            if self._alive.pop(key, None) is not None:
                self._count(-size, grows, part)

        self._alive[key] = _Entry(weakref.ref(storage, strike_out), grows, part)
        self._count(size, grows, part)
        now = self.now
        self._moments[now.per_row] = max(self._moments.get(now.per_row, now.fixed), now.fixed)

    def _part_of(self, made_of: object) -> range:
        """The rows whose part one of these tensors is; none where none is a part."""
        for tensor in tree_leaves(made_of):
            entry = self._alive.get(tensor.untyped_storage()._cdata) if isinstance(tensor, Tensor) else None
            if entry is not None and entry.part:
                return entry.part
            if entry is not None and entry.grows and tensor.numel() % self.rows:
                # Rows lie one behind the other.
                whole = tensor.untyped_storage().nbytes() // tensor.element_size()
                first = tensor.storage_offset() * self.rows // whole
                last = (tensor.storage_offset() + tensor.numel() - 1) * self.rows // whole
                return range(first, min(last, self.rows - 1) + 1)
        return _NONE

    def _count(self, size: int, grows: bool, part: range) -> None:
        if grows:
            self._growing += size
        elif part:
            for row in part:
                self._of_rows[row] += size // len(part)
        else:
            self._fixed += size


def telling_rows(sizes: Iterable[int]) -> int:
    """A number of rows that shows in a storage's size whether it grows with them: a prime that divides none of `sizes`.

    Fake tensors cost nothing, so the number may be larger than anyone would train with.

    Args:
        sizes: numbers of elements, and lengths, of whatever does not grow with the rows.
    """
    known = {size for size in sizes if size > 1}
    return next(prime for prime in _PRIMES if all(size % prime for size in known))
