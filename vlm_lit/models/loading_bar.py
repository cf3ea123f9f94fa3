"""Suppression of transformers' progress bar for loading weights; the bars of downloads are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from transformers.utils.logging import set_tqdm_hook

_DESCRIPTION: Final = "Loading weights"


@contextmanager
def without_loading_bar() -> Iterator[None]:
    """No bar `Loading weights` within."""
    before = set_tqdm_hook(_hook)
    try:
        yield
    finally:
        set_tqdm_hook(before)


def _hook(made: Callable[..., Any], values: tuple[Any, ...], options: Mapping[str, Any]) -> object:
    hidden = {"disable": True} if options.get("desc") == _DESCRIPTION else {}
    return made(*values, **options, **hidden)
