"""Shortcuts that a run's module allows: asked of it once, before its weights are loaded."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from lightning import LightningModule

from vlm_lit.schema import Shortcuts


@runtime_checkable
class KnowsShortcuts(Protocol):
    """A module that says itself what may be done the short way."""

    def shortcuts(self) -> Shortcuts:
        """What its checkpoint allows."""


def shortcuts_of_module(module: LightningModule) -> Shortcuts:
    """What `module` allows; of a module that does not say so, questions never share a row.

    A module of the user's own says so by `shortcuts()`, or by `takes_shared_rows = True`.
    """
    takes = getattr(module, "takes_shared_rows", None)
    if takes is not False and isinstance(module, KnowsShortcuts):
        return module.shortcuts()
    if takes:
        return Shortcuts()
    return Shortcuts(
        unpackable=f"{type(module).__name__} does not say that it keeps them apart in a shared one, by StepBatch's "
        "segments (takes_shared_rows = True)"
    )
