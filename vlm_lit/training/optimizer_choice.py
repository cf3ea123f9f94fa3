"""Optimizer from a class, a path to one or a partial, and the check of a learning rate of its own."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NoReturn

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.optim import Optimizer

from vlm_lit.errors import ConfigError, VlmLitError

_IMPORTABLE: Final = ("torch.optim", "bitsandbytes.optim")
_UNSTORED: Final = "unstored"


def as_optimizer(written: object) -> OptimizerCallable:
    """What makes the optimizer of parameter groups.

    Args:
        written: a class of optimizer, a partial or function that makes one, a class's path, or a mapping of
            class_path and init_args.

    Raises:
        ConfigError: it is none of them, or the path leads to no optimizer.
    """
    if isinstance(written, Mapping) and _UNSTORED in written:
        return partial(_refuse, str(written[_UNSTORED]))
    if isinstance(written, str):
        written = {"class_path": written}
    if isinstance(written, Mapping):
        options = written.get("init_args") or {}
        if "class_path" not in written or not isinstance(options, Mapping):
            raise ConfigError(f"optimizer is {dict(written)}; write a class_path, and init_args where it has options.")
        return partial(_optimizer_class(str(written["class_path"])), **options)
    if not callable(written):
        raise ConfigError(
            f"optimizer is {written!r}; it must be a class, such as torch.optim.AdamW, or functools.partial(...) of "
            "one: it is made when the model's parameters are there."
        )
    return written


def _optimizer_class(path: str) -> type[Optimizer]:
    module, _, name = path.rpartition(".")
    # A checkpoint's settings come here too, and a file may not decide which code is imported.
    known = module in sys.modules or any(f"{module}.".startswith(f"{place}.") for place in _IMPORTABLE)
    try:
        found = getattr(importlib.import_module(module), name) if known and module else None
    except (ImportError, AttributeError):
        found = None
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise ConfigError(
            f"optimizer.class_path is {path}, which is no optimizer that can be found. Import its module first, or "
            "give the class itself."
        )
    return found


def made_optimizer(optimizer: Callable[..., Optimizer], groups: Any) -> Optimizer:  # noqa: ANN401 - of parameters
    """The optimizer over groups of parameters.

    Raises:
        ConfigError: it does not take its options.
    """
    try:
        return optimizer(groups)
    except VlmLitError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model.optimizer cannot be made: {' '.join(str(error).split())}.") from error


def check_options(optimizer: OptimizerCallable) -> None:
    """Refuse options that mean nothing, before a model is loaded to be trained by them.

    Raises:
        ConfigError: naming what the optimizer says.
    """
    kind, options = _taken_apart(optimizer)
    for name, value in options.items():
        each = value if isinstance(value, (list, tuple)) else (value,)
        if any(isinstance(one, float) and not math.isfinite(one) for one in each):
            raise ConfigError(f"model.optimizer.init_args.{name} is {value}, which is no finite number.")
    if kind is not None and kind.__module__.startswith("torch.optim."):  # others may look at their parameters
        made_optimizer(partial(kind, **options), [nn.Parameter(torch.zeros(1, 1))])


def check_rate(optimizer: OptimizerCallable, learning_rate: float, *, written: object) -> None:
    """Refuse a learning rate of the optimizer's own, which the parameter groups' would replace.

    Args:
        optimizer: what makes the optimizer.
        learning_rate: that of parts which state none.
        written: what `optimizer` was made from. In a partial of a class every option was written; the parser's partials
            and a checkpoint's mapping hold the class's defaults as well.

    Raises:
        ConfigError: naming the settings that have an effect.
    """
    kind, options = _taken_apart(optimizer)
    rate = options.get("lr")
    if kind is None or rate is None or rate == learning_rate:
        return
    if rate == _default_rate(kind) and not (isinstance(written, partial) and isinstance(written.func, type)):
        return
    raise rate_without_effect(rate, learning_rate)


def rate_without_effect(rate: object, learning_rate: object) -> ConfigError:
    """The error for a learning rate of the optimizer's own."""
    return ConfigError(
        f"optimizer.init_args.lr is {rate}, which has no effect: each part of the model has its own learning rate, in "
        f"model.init_args.parts, or model.init_args.learning_rate, which is {learning_rate}. Set that one instead."
    )


def stored(optimizer: object) -> dict[str, object]:
    """An optimizer as a checkpoint holds it: its class's path and options, or the word that it has none."""
    kind, options = _taken_apart(optimizer)
    if kind is None:
        return {_UNSTORED: repr(optimizer)}
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": options}


def _taken_apart(optimizer: object) -> tuple[type[Optimizer] | None, dict[str, Any]]:
    """The class that an optimizer is made by and its options; jsonargparse's partial holds the class as an argument."""
    parts = [optimizer.func, *optimizer.args] if isinstance(optimizer, partial) else [optimizer]
    kind = next((part for part in parts if isinstance(part, type) and issubclass(part, Optimizer)), None)
    return kind, dict(optimizer.keywords) if isinstance(optimizer, partial) else {}


def _default_rate(kind: Callable[..., Optimizer]) -> object:
    parameter = inspect.signature(kind).parameters.get("lr")
    return parameter.default if parameter is not None else None


def _refuse(description: str, _: object) -> NoReturn:
    raise ConfigError(
        f"This module comes from a checkpoint, which cannot hold its optimizer, {description}. To train it, give the "
        "optimizer again: load_from_checkpoint(path, optimizer=...)."
    )
