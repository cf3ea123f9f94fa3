"""Computing in float64 throughout: models that fall back to float32 inside, as in their norms, do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class WholePrecision(TorchFunctionMode):
    """Everything that asks for float32 in the meantime gets float64.

    Transformers' norms and softmaxes compute in float32 whatever the model is in, so that two float64 models that do
    the same in another order differ by 1e-8.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        wider = [torch.float64 if value is torch.float32 else value for value in args]
        named = {name: torch.float64 if value is torch.float32 else value for name, value in (kwargs or {}).items()}
        return func(*wider, **named)
