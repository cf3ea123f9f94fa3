"""Frozen base split over processes: each decoder layer is whole only while it computes.

Each process keeps its share of every decoder layer's frozen weights (torch's `fully_shard`, FSDP2). What is trained is
left out of it and stays whole on every process, and so does what lies outside the decoder layers: the vision tower, the
projector, word embeddings and head.

To put a layer together takes all processes at once, and they differ in what they need: one has fewer micro-batches,
one a row without an image, one a longer answer, one runs out of memory and begins again. So before each gathering they
tell each other which layer each of them needs next (a few bytes), and then gather these layers together, one after
another. A process that needs none helps the others, until none needs any. So nobody has to make as many forward passes
as somebody else, and nothing is computed in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import bitsandbytes as bnb
import torch
import torch.distributed as dist
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from vlm_lit.errors import ConfigError
from vlm_lit.models.families import Family
from vlm_lit.models.parts import PartsSettings

_NONE: Final = -1  # in place of a layer's number


class SplitLayers:
    """The decoder layers of a model whose frozen weights are split over processes.

    Args:
        layers: the layers, each split by `fully_shard`.
        talk: the processes, over a backend for tensors on the host: they talk while their devices compute.
    """

    def __init__(self, layers: Sequence[FSDPModule], talk: dist.ProcessGroup) -> None:
        self.layers, self.talk = list(layers), talk
        self._helps = False
        for number, layer in enumerate(self.layers):
            layer.set_custom_all_gather(_Gathering(partial(self._gather, number)))  # type: ignore[arg-type]
            module = cast(nn.Module, layer)
            module.register_forward_hook(_forget_failed, always_call=True)

    def help_until_done(self) -> None:
        """Take part in the gatherings of the others until no process needs any: before whatever else all do together.

        Every process has to come here, outside its forward and backward passes.
        """
        while wanted := self._wanted_by_all(_NONE):
            for number in wanted:
                self._help(number)

    def forget_pass(self) -> None:
        """Leave a forward or backward pass that failed: every layer is split again."""
        for layer in self.layers:
            layer.reset_iter_state()

    def _gather(self, number: int, gather: Callable[[], dist.Work | None]) -> dist.Work | None:
        """Gather a layer for this process, and whichever the others need now, in the same order everywhere."""
        if self._helps:
            return gather()
        work = None
        for wanted in self._wanted_by_all(number):
            if wanted == number:
                work = gather()
            else:
                self._help(wanted)
        return work

    def _wanted_by_all(self, number: int) -> list[int]:
        wanted = [torch.zeros(1, dtype=torch.int64, device="cpu") for _ in range(self.talk.size())]
        dist.all_gather(wanted, torch.tensor([number], device="cpu"), group=self.talk)
        return sorted({int(one) for one in wanted} - {_NONE})

    def _help(self, number: int) -> None:
        self._helps = True
        try:
            self.layers[number].unshard()
            self.layers[number].reshard()
        finally:
            self._helps = False


class _Gathering:
    """The gathering of one layer, as FSDP2 takes one of a user's own (its `AllGather`)."""

    def __init__(self, turn: Callable[[Callable[[], dist.Work | None]], dist.Work | None]) -> None:
        self.turn = turn

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Room for a whole layer; where there is none, the others have not been told to wait for this process yet."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: dist.ProcessGroup, async_op: bool = False
    ) -> dist.Work | None:
        return self.turn(partial(dist.all_gather_single, output_tensor, input_tensor, group=group, async_op=async_op))


def _forget_failed(module: nn.Module, _: tuple[Any, ...], output: object) -> None:
    if output is None:  # its forward pass has raised; nothing else would split it again
        cast(FSDPModule, module).reset_iter_state()


def check_splittable(parts: PartsSettings) -> None:
    """Refuse a run whose decoder layers hold nothing to split; asked before weights are loaded.

    Raises:
        ConfigError: the language model is trained in full, or stored in int8.
    """
    language = parts.language_model
    if language.training == "full" and language.last_layers is None:
        raise ConfigError(
            "trainer.strategy frozen_sharded splits the frozen base, and model.parts.language_model.training is full: "
            "nothing of its layers is frozen. Set it to lora, or use the strategy ddp."
        )
    if language.precision == "int8":
        raise ConfigError(
            "trainer.strategy frozen_sharded cannot split a language model that is stored in int8: bitsandbytes keeps "
            "its weights beside the parameters. Set model.parts.language_model.precision to nf4, bf16 or fp32, or use "
            "the strategy ddp."
        )


def split_frozen(base: nn.Module, family: Family, mesh: DeviceMesh) -> SplitLayers:
    """Split the frozen weights of each decoder layer over a mesh of one dimension; all processes do so together.

    Args:
        base: the adapted model without its PEFT shell; what it trains requires a gradient.
        family: its facts.
        mesh: the processes.

    Raises:
        ConfigError: the installed torch lacks what is needed.
    """
    if not hasattr(FSDPModule, "reset_iter_state"):
        raise ConfigError(
            f"trainer.strategy frozen_sharded needs torch 2.13 or later, and {torch.__version__} is installed."
        )
    layers = [_split(layer, mesh) for layer in layers_to_split(base, family)]
    if not layers:
        raise ConfigError(
            "trainer.strategy frozen_sharded splits the frozen base, and every decoder layer of this model is trained "
            "in full. Lower model.parts.language_model.last_layers, or use the strategy ddp."
        )
    return SplitLayers(layers, dist.new_group(backend="gloo"))


def layers_to_split(base: nn.Module, family: Family) -> list[nn.Module]:
    """The decoder layers that hold something frozen."""
    return [layer for layer in base.get_submodule(family.decoder_layers).children() if not _is_trained(layer)]


def _is_trained(layer: nn.Module) -> bool:
    """Whether a whole decoder layer is trained: PEFT then runs a copy of it in its place."""
    return isinstance(layer, ModulesToSaveWrapper) or all(weight.requires_grad for weight in layer.parameters())


def _split(layer: nn.Module, mesh: DeviceMesh) -> FSDPModule:
    linear = [module for module in layer.modules() if isinstance(module, bnb.nn.Linear4bit)]
    states = [module.weight.quant_state for module in linear]
    trained = {parameter for parameter in layer.parameters() if parameter.requires_grad}
    # Explicit, since each layer is a root of its own, which would else stay whole behind its forward pass.
    split = fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=trained)
    for module, state in zip(linear, states, strict=True):
        module.quant_state = state  # where bitsandbytes looks for it if a weight has none, as a gathered one
        module.weight.quant_state = state  # where weights are counted
    return split
