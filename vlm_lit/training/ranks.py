"""Ranks: what the processes of a run have to agree on, one class a strategy.

The rest of the package asks the ranks, and never torch.distributed, for a sum over all of them, for the most of a
value, for their answers as one list, for gradients that are everyone's, and for a backward pass. One device, `ddp` and
`frozen_sharded` are known to give the same result on any number of ranks; every other strategy is refused by its name.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from vlm_lit.data.rank_share import RankShare, rank_share
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import trainable_state
from vlm_lit.models.compiled_layers import CompiledLayer
from vlm_lit.models.families import Family
from vlm_lit.models.parts import PartsSettings
from vlm_lit.training.frozen_sharded import NAME, FrozenShardedStrategy
from vlm_lit.training.optimization import clip

_Met = TypeVar("_Met")

BUCKET: Final = 64 * 1024**2
"""Bytes of gradients that are copied into one message."""


class Ranks:
    """The one process of a run on one device, and what every kind of ranks is asked.

    Args:
        share: which share of the data is this process's.
        device: where it computes.
    """

    def __init__(self, share: RankShare = RankShare(0, 1), device: torch.device | None = None) -> None:  # noqa: B008
        self.rank, self.world = share
        self.device = device if device is not None else torch.device("cpu")

    # The model ---------------------------------------------------------------------------------------------------

    def check(self, parts: PartsSettings) -> None:
        """Refuse parts that cannot be trained on ranks of this kind; asked before weights are loaded."""

    def hold(self, base: nn.Module, family: Family) -> None:
        """Let each rank hold what it has to of a base that was just loaded and adapted: here all of it."""

    def trained_state(self, module: nn.Module) -> dict[str, Tensor]:
        """Everything that is trained, by name and whole, for a checkpoint; shapes are the parameters' own, [...]."""
        return trainable_state(module)

    # Values ------------------------------------------------------------------------------------------------------

    def sum(self, value: float) -> float:
        """A value summed over all ranks."""
        return value

    def most(self, value: float) -> float:
        """The largest value of any rank."""
        return value

    def any(self, decision: bool) -> bool:
        """Whether some rank says yes."""
        return bool(self.most(float(decision)))

    def each(self, found: _Met) -> list[_Met]:
        """What each rank has found, in their order. It is pickled."""
        return [found]

    def wait(self) -> None:
        """Let no rank go on before all are here."""

    def take_first(self, tensors: Sequence[Tensor]) -> None:
        """Let every rank have the first one's numbers, in place: what each computed may differ in its last bit."""

    # A step ------------------------------------------------------------------------------------------------------

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients to those of the trained parameters.

        Not by Lightning's strategies: they prepare a reduction of their own, once a backward pass.
        """
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all ranks.

        The loss is divided by what it is counted in on all ranks, so the sum is the gradient of the global mean.
        """

    def clip(self, parameters: Sequence[nn.Parameter], largest_norm: float | None) -> float:
        """Scale summed gradients down to a norm of at most `largest_norm`; the norm before that.

        Every rank has every gradient whole, so each computes the same norm.
        """
        return float(clip(parameters, largest_norm))


class ReplicatedRanks(Ranks):
    """Ranks of which each holds the whole model (DDP)."""

    def sum(self, value: float) -> float:
        """A value summed over all ranks."""
        return self._reduced(value, dist.ReduceOp.SUM)

    def most(self, value: float) -> float:
        """The largest value of any rank."""
        return self._reduced(value, dist.ReduceOp.MAX)

    def _reduced(self, value: float, how: dist.ReduceOp.RedOpType) -> float:
        self._join()
        total = torch.tensor(value, dtype=torch.float64, device=self.device if self.device.type == "cuda" else None)
        dist.all_reduce(total, how)
        return float(total)

    def each(self, found: _Met) -> list[_Met]:
        """What each rank has found, in their order. It is pickled."""
        self._join()
        shares: list[Any] = [None] * self.world
        dist.all_gather_object(shares, found)
        return shares

    def wait(self) -> None:
        """Let no rank go on before all are here."""
        self.sum(0.0)

    def take_first(self, tensors: Sequence[Tensor]) -> None:
        """Let every rank have the first one's numbers, in place."""
        self._join()
        for tensor in tensors:
            first = tensor.to(self.device)
            dist.broadcast(first, src=0)
            tensor.copy_(first)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all ranks, a bucket of them at a time.

        A rank on which a parameter saw no data contributes zero rather than waiting for ever.
        """
        if self.world == 1:
            return
        self._join()
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in buckets([p.grad for p in parameters if p.grad is not None], BUCKET):
            if len(bucket) == 1 and bucket[0].is_contiguous():
                dist.all_reduce(bucket[0])  # a large one, in its place
                continue
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, summed in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))

    def _join(self) -> None:
        """Do what has to be done before something that all ranks do together."""


class FrozenShardedRanks(ReplicatedRanks):
    """Ranks of which each holds a share of the frozen base, and all of what is trained.

    Args:
        strategy: what splits the base.
        share, device: as those of `Ranks`.
    """

    def __init__(self, strategy: FrozenShardedStrategy, share: RankShare, device: torch.device) -> None:
        super().__init__(share, device)
        self.strategy = strategy

    def check(self, parts: PartsSettings) -> None:
        """Refuse parts of which nothing can be split.

        Raises:
            ConfigError: says what to change.
        """
        self.strategy.check(parts)

    def hold(self, base: nn.Module, family: Family) -> None:
        """Split the base.

        Raises:
            ConfigError: its layers are compiled.
        """
        if any(isinstance(module, CompiledLayer) for module in base.modules()):
            raise ConfigError(
                "model.compile_layers is true, which nobody has tried with layers that trainer.strategy frozen_sharded "
                "gathers when they are needed. Set it to false, or the strategy to ddp."
            )
        self.strategy.split_base(base, family)

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients to those of the trained parameters; layers are split again whatever happens."""
        try:
            super().backward(loss)
        except Exception:
            if self.strategy.split is not None:
                self.strategy.split.forget_pass()
            raise

    def _join(self) -> None:
        if self.strategy.split is not None:
            self.strategy.split.help_until_done()


def buckets(gradients: Sequence[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Gradients in their order, in groups of one data type and of at most `most` bytes; a larger one is alone."""
    group: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if group and (size + gradient.nbytes > most or gradient.dtype != group[0].dtype):
            yield group
            group, size = [], 0
        group.append(gradient)
        size += gradient.nbytes
    if group:
        yield group


def warn(words: str) -> None:
    """Warn of something that has happened on this rank alone; of several ranks it says which."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        warnings.warn(f"Rank {dist.get_rank()} of {dist.get_world_size()}: {words}", stacklevel=2)
    else:
        rank_zero_warn(words)


def ranks_of(trainer: lightning.Trainer | None) -> Ranks:
    """The ranks of a trainer's run; one process alone where there is no trainer, or it has not begun.

    Raises:
        ConfigError: as `check_strategy`.
    """
    if trainer is None:
        return Ranks()
    strategy = trainer.strategy
    check_strategy(strategy)
    share, device = rank_share(trainer), strategy.root_device
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks(share, device)
    if isinstance(strategy, FrozenShardedStrategy):
        return FrozenShardedRanks(strategy, share, device)
    return ReplicatedRanks(share, device) if isinstance(strategy, DDPStrategy) else Ranks(share, device)


# Which strategies there are ------------------------------------------------------------------------------------------

# A subclass may shard or average gradients itself, as DeepSpeed's does, so exactly these.
_KNOWN: Final[tuple[type[Strategy], ...]] = (SingleDeviceStrategy, DDPStrategy, FrozenShardedStrategy)
_SHARDS: Final = (
    "it shards the parameters and averages their gradients itself, and the sum over all ranks that an optimizer step "
    "makes here would add up shards and count them twice; nor can it run a 4-bit base whose parts differ in precision"
)
_LAST: Final = (
    "it keeps only the last micro-batch's gradient of a step that runs several backward passes, as a step here does"
)
# By the beginning of a strategy's name in lower case, the longest first.
_REASONS: Final = {
    "deepspeed_stage_3": "it splits the trained weights too, which 4-bit layers and saved adapters do not survive",
    "deepspeed": _LAST,
    "fsdp": _SHARDS,
    "modelparallel": "it leaves to the module how a model is split, counts only machines as ranks for the data, and "
    "puts the whole base together for every checkpoint",
    "model_parallel": "it leaves to the module how a model is split, counts only machines as ranks for the data, and "
    "puts the whole base together for every checkpoint",
    "xla": "no 4-bit kernel runs on its devices",
    "single_xla": "no 4-bit kernel runs on its devices",
}


def check_strategy(strategy: Strategy | str) -> None:
    """Refuse a strategy that is not known to give what one device gives.

    Raises:
        ConfigError: with the reason, and what to use instead.
    """
    if type(strategy) in _KNOWN:
        return
    name = strategy.rpartition(".")[2] if isinstance(strategy, str) else type(strategy).__name__
    reason = next((why for key, why in _REASONS.items() if name.lower().startswith(key)), None)
    if reason is None and isinstance(strategy, str):
        return  # one of DDP's names, or Lightning's to refuse; what it makes of it is looked at again
    raise ConfigError(
        f"trainer.strategy is {name}: {reason or 'whether it gives the same result as one device is not known'}. Use "
        f"ddp (each device holds the base, in 4 bits if asked), {NAME} (the frozen base is split over the devices), or "
        "leave it out for one device."
    )
