"""Mode under which a step on shapes alone still knows its small numbers: grids, sizes, masks and token ids.

A model whose pictures vary asks for such numbers in the middle of its work: into how many patches is this picture to be
split, at which places do image tokens stand? Fake tensors have no contents, so `.tolist()` fails on them. Here an
operation whose tensors all have contents is computed, and its result has contents too; one that meets a fake tensor,
such as a weight or pixels, gives a fake tensor. What autograd, autocast and a ledger see are sizes and dtypes as ever.

Two things are said of what has no contents:

- Unknown numbers differ from a number that they are compared with (`!=`). Idefics3 leaves out pictures that are nothing
  but zeros, and no picture is.
- `torch.empty` has no contents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten

_MOST: Final = 2**27
"""Elements of the largest tensor that is computed with its contents."""

_FACTORIES: Final = {
    _aten.arange.default,
    _aten.arange.start,
    _aten.arange.start_step,
    _aten.full.default,
    _aten.linspace.default,
    _aten.ones.default,
    _aten.scalar_tensor.default,
    _aten.zeros.default,
}
_UNKNOWN: Final = {_aten.empty_like.default, _aten.new_empty.default, _aten.new_empty_strided.default}


class KnownValues(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes what can be computed; to be entered within a `FakeTensorMode` that takes tensors with contents."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        options = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, options)) if isinstance(leaf, Tensor)]
        if _computable(func, tensors):
            with unset_fake_temporarily():
                return func(*args, **options)
        if func is _aten.ne.Scalar:
            with unset_fake_temporarily():
                return torch.ones(args[0].shape, dtype=torch.bool)
        if func is _aten.index.Tensor:
            args = (args[0], _as_places(args[1]), *args[2:])
        return func(*args, **options)


def _computable(func: Callable[..., Any], tensors: Sequence[Tensor]) -> bool:
    if not tensors:
        return func in _FACTORIES
    if func in _UNKNOWN:
        return False
    return all(not isinstance(tensor, FakeTensor) and tensor.numel() <= _MOST for tensor in tensors)


def _as_places(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Indices with the places at which known masks [..] are true: how many these are decides a result's size."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor):
            with unset_fake_temporarily():
                found += index.nonzero().unbind(1)
        else:
            found.append(index)
    return found
