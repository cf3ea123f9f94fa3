"""CUDA's autocast rules on the CPU, whose own differ: there layer norms, softmax, powers and sums run in float32.

What multiplies, adds or concatenates their results with bfloat16 ones then has two dtypes, on a GPU alone. The list is
that of torch's documentation, "CUDA Ops that can autocast to float32".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FLOAT32: Final = frozenset(
    {
        "__pow__", "__rdiv__", "__rpow__", "__rtruediv__", "acos", "asin", "binary_cross_entropy_with_logits", "cosh",
        "cosine_embedding_loss", "cdist", "cosine_similarity", "cross_entropy", "cumprod", "cumsum", "dist", "erfinv",
        "exp", "expm1", "group_norm", "hinge_embedding_loss", "kl_div", "l1_loss", "layer_norm", "log", "log10",
        "log_softmax", "log1p", "log2", "margin_ranking_loss", "mse_loss", "multilabel_margin_loss",
        "multi_margin_loss", "nll_loss", "norm", "normalize", "pdist", "poisson_nll_loss", "pow", "prod", "reciprocal",
        "rsqrt", "sinh", "smooth_l1_loss", "soft_margin_loss", "softmax", "softmin", "softplus", "sum", "renorm", "tan",
        "triplet_margin_loss",
    }
)  # fmt: skip


class CudaAutocast(TorchFunctionMode):
    """Within bfloat16 autocast on the CPU, the functions that CUDA runs in float32 do so; `cast` counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.cast: dict[str, int] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        # With a dtype asked for, or written in place, CUDA leaves an operation alone as well.
        if name not in FLOAT32 or not torch.is_autocast_enabled("cpu") or kwargs.get("dtype") is not None:
            return func(*args, **kwargs)
        if not any(_is_low(value) for value in [*args, *kwargs.values()]):
            return func(*args, **kwargs)
        self.cast[name] = self.cast.get(name, 0) + 1
        with torch.autocast("cpu", enabled=False):
            return func(*map(_raised, args), **{key: _raised(value) for key, value in kwargs.items()})


def _is_low(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)


def _raised(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
