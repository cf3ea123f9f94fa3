"""Suppression of what transformers prints while it loads weights: its bar, and its table of missing and unused ones.

The bars of downloads are shown.
"""

from __future__ import annotations

import logging
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


@contextmanager
def without_load_report() -> Iterator[None]:
    """No table of weights that are missing or unused within; whoever calls says that in words of their own."""
    # Not by the logger's level: at a higher one the library warns of layers that are not sharded, as none is to be.
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(_is_error)
    try:
        yield
    finally:
        logger.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _hook(made: Callable[..., Any], values: tuple[Any, ...], options: Mapping[str, Any]) -> object:
    hidden = {"disable": True} if options.get("desc") == _DESCRIPTION else {}
    return made(*values, **options, **hidden)
