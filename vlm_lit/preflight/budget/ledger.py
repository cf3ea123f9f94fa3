"""Ledger of the bytes alive at once while code runs, and of their growth with a micro-batch's rows.

Every tensor that an operation makes is entered when it is made and struck out when its storage is freed, whoever held
it: autograd, bitsandbytes' layers (which keep inputs where autograd's hooks do not see them), autocast's cache, or a
local variable. That works on real tensors as on fake ones.
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

_PRIMES: Final = (13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)


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


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is made while it is entered.

    Args:
        rows: rows of the micro-batch; a storage whose size is a multiple is taken to grow with them.
        outside: tensors that are counted elsewhere: parameters, gradients, optimizer states.
    """

    def __init__(self, rows: int, outside: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows = rows
        self.fixed = self.growing = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}
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
            self._enter(made)
        elif isinstance(made, tuple | list):
            for tensor in made:
                if isinstance(tensor, Tensor):
                    self._enter(tensor)
        return made

    @property
    def now(self) -> Bytes:
        """What is alive."""
        return Bytes(fixed=self.fixed, per_row=self.growing)

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

    def _enter(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive or key in self._outside:
            return
        size = storage.nbytes()
        grows = size % self.rows == 0

        def strike_out(_: weakref.ref[torch.UntypedStorage]) -> None:
            if self._alive.pop(key, None) is not None:
                self._count(-size, grows)

        self._alive[key] = weakref.ref(storage, strike_out)
        self._count(size, grows)
        self._moments[self.growing] = max(self._moments.get(self.growing, 0), self.fixed)

    def _count(self, size: int, grows: bool) -> None:
        if grows:
            self.growing += size // self.rows
        else:
            self.fixed += size


def telling_rows(sizes: Iterable[int]) -> int:
    """A number of rows that shows in a storage's size whether it grows with them: a prime that divides none of `sizes`.

    Fake tensors cost nothing, so the number may be larger than anyone would train with.

    Args:
        sizes: numbers of elements, and lengths, of whatever does not grow with the rows.
    """
    known = {size for size in sizes if size > 1}
    return next(prime for prime in _PRIMES if all(size % prime for size in known))
