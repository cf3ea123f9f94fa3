"""Classes of ours put before a module's own, so that a call asks ours first."""

from __future__ import annotations

from typing import Final

from torch import nn

_MADE: Final = dict[tuple[type[nn.Module], type[nn.Module]], type[nn.Module]]()


def class_before(first: type[nn.Module], kind: type[nn.Module]) -> type[nn.Module]:
    """`kind` with `first` before it, under the name of `kind`; one class for all modules of that kind."""
    if (first, kind) not in _MADE:
        _MADE[first, kind] = type(kind.__name__, (first, kind), {"__module__": kind.__module__})
    return _MADE[first, kind]
