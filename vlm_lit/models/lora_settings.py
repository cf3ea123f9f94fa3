"""Settings of low-rank updates: size, scale, layers, start, and what PEFT offers besides."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from vlm_lit.errors import ConfigError

Scaling = Literal["alpha_over_rank", "rank_stabilised"]
Start = Literal["random", "pissa", "loftq", "eva"]

_FIRST: Final = frozenset({"rank", "alpha", "dropout", "targets", "leaves", "last_share"})
"""The settings that the first checkpoints stated."""


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """The low-rank update W + scale * B A, with scale = alpha / rank.

    Args:
        rank: inner dimension of the update.
        alpha: numerator of its scale.
        dropout: probability with which an input of the update is zeroed in training.
        targets: which layers of a decoder layer get one: attention, mlp, or both.
        leaves: names of the linear layers to adapt instead, for example [q_proj, v_proj]; null takes all of `targets`.
        last_share: share of the decoder layers that get one, counted from the last: 0.25 is the last quarter (rounded,
            at least one layer), 1 is all. Parts other than the language model are adapted whole.
        scaling: alpha_over_rank, or rank_stabilised: alpha / sqrt(rank), so that a larger rank does not learn more
            slowly (rsLoRA, Kalajdzievski 2023).
        start: how A and B begin. random: A drawn, B zero (Hu et al. 2021). pissa: the weight's largest singular
            values and vectors, so that training moves its principal part; the base keeps its weights, and what A and B
            begin with is subtracted (PiSSA, Meng et al. 2024). loftq: what a 4-bit base lost of its weights (LoftQ,
            Li et al. 2023, one iteration). eva: A spans what the layer's inputs vary in on the first training
            conversations, B zero (EVA, Paischer et al. 2024; equal ranks).
        dora: learn each output's magnitude apart from its direction (DoRA, Liu et al. 2024).
        b_lr_ratio: learning rate of B over that of A (LoRA+, Hayou et al. 2024, who take 16); 1 is plain LoRA.
        ranks: other ranks by layer: {q_proj: 8, 'layers[.][01][.].*': 4}. A key is the end of a layer's name, or a
            regular expression for it; the first that fits decides.
        alphas: other alphas by layer, in the same way.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: list[Literal["attention", "mlp"]] = field(default_factory=lambda: ["attention"])
    leaves: list[str] | None = None
    last_share: float = 1.0
    scaling: Scaling = "alpha_over_rank"
    start: Start = "random"
    dora: bool = False
    b_lr_ratio: float = 1.0
    ranks: dict[str, int] | None = None
    alphas: dict[str, float] | None = None

    def __post_init__(self) -> None:
        _check_rank("lora.rank", self.rank)
        _check_alpha("lora.alpha", self.alpha)
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"lora.dropout is {self.dropout}; it must lie in [0, 1).")
        if not self.targets and not self.leaves:
            raise ConfigError("lora.targets is empty; name attention, mlp or both, or name layers in lora.leaves.")
        if not 0.0 < self.last_share <= 1.0:
            raise ConfigError(
                f"lora.last_share is {self.last_share}; it must lie in (0, 1]: 0.25 is the last quarter of the decoder "
                "layers. To adapt none, set language_model.training to frozen."
            )
        if not (math.isfinite(self.b_lr_ratio) and self.b_lr_ratio > 0):
            raise ConfigError(
                f"lora.b_lr_ratio is {self.b_lr_ratio}; it must be a finite number above zero: B's learning rate over "
                "A's. 1 is plain LoRA, 16 what LoRA+ takes."
            )
        for pattern, rank in (self.ranks or {}).items():
            _check_pattern("ranks", pattern)
            _check_rank(f"lora.ranks[{pattern!r}]", rank)
        for pattern, alpha in (self.alphas or {}).items():
            _check_pattern("alphas", pattern)
            _check_alpha(f"lora.alphas[{pattern!r}]", alpha)
        if self.dora and self.start in ("pissa", "loftq"):
            raise ConfigError(
                f"lora.dora goes with a start at which B is zero (random, eva), and lora.start is {self.start}: DoRA's "
                "magnitudes are those of the weights as they are without an update. Set one of the two aside."
            )

    @property
    def layered(self) -> dict[str, Mapping[str, float]]:
        """The patterns of layers, by the setting they stand in."""
        return {"ranks": self.ranks or {}, "alphas": self.alphas or {}}

    def stated(self) -> dict[str, Any]:
        """The settings as they stand beside trained weights: what came later than the first checkpoints and is not
        used is left out."""
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name in _FIRST or getattr(self, one.name) != one.default
        }


def _check_rank(name: str, rank: int) -> None:
    if rank < 1:
        raise ConfigError(f"{name} is {rank}; it must be at least 1.")


def _check_alpha(name: str, alpha: float) -> None:
    if not (math.isfinite(alpha) and alpha > 0):
        raise ConfigError(f"{name} is {alpha}; it must be a finite number above zero.")


def _check_pattern(setting: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"lora.{setting} has the key {pattern!r}, which is no regular expression ({error}). Write the end of a "
            "layer's name, such as q_proj."
        ) from error
    if not pattern:
        raise ConfigError(f"lora.{setting} has an empty key. Write the end of a layer's name, such as q_proj.")
