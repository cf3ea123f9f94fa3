"""Memory of one micro-batch beside the weights, from a training step of the run's module on shapes alone.

B = rows, L = tokens of a row, D = hidden width, S = supervised positions, V = vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.optim import Optimizer

from vlm_lit.errors import ConfigError
from vlm_lit.models.adapters import recompute_activations
from vlm_lit.models.families import LAYERED
from vlm_lit.models.reference import Reference
from vlm_lit.models.shapes import without_value_checks
from vlm_lit.models.stored_bytes import tensor_bytes
from vlm_lit.objectives.cross_entropy import chunked_cross_entropy
from vlm_lit.objectives.log_probs import token_log_probs
from vlm_lit.preflight.budget.hollow_module import image_inputs, resident, text_inputs
from vlm_lit.preflight.budget.known_values import KnownValues
from vlm_lit.preflight.budget.ledger import Bytes, Ledger, Peak
from vlm_lit.preflight.budget.pictures import Pictures
from vlm_lit.schema import TokenBatch
from vlm_lit.training.answered import AnsweredModule
from vlm_lit.training.module import VisionLanguageModule
from vlm_lit.training.optimization import clip, parameter_groups
from vlm_lit.training.referenced import ReferencedModule

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class BackboneBytes:
    """Of a forward and backward pass without the head.

    Args:
        kept: alive between the two: what the backward pass needs, and the inputs.
        peak: the most at any moment.
    """

    kept: Bytes
    peak: Peak


class _HandedOver(torch.autograd.Function):
    """Stands for the head: takes hidden states and gives back their gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        ctx.like = hidden.shape, hidden.dtype
        return hidden.new_empty(())

    @staticmethod
    def backward(ctx: Any, _gradient: Tensor) -> Tensor:  # noqa: ANN401
        shape, dtype = ctx.like
        return torch.empty(shape, dtype=dtype)


class _GivenHidden(torch.autograd.Function):
    """Stands for the backbone: gives hidden states and takes their gradient."""

    @staticmethod
    def forward(_ctx: Any, _seed: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:  # noqa: ANN401
        return torch.empty(shape, dtype=dtype)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        return gradient.new_empty(()), None, None


@contextmanager
def on_shapes(mode: FakeTensorMode, autocast: Autocast) -> Iterator[None]:
    """Passes of a model without weights, which know their small numbers."""
    with without_value_checks(), mode, KnownValues(), autocast():
        yield


def backbone_bytes(
    module: AnsweredModule, mode: FakeTensorMode, autocast: Autocast, *, rows: int, length: int, images: Pictures | int
) -> BackboneBytes:
    """Measure tower, projector and language model.

    Args:
        module: without weights, see `hollow_module`.
        mode: that of its tensors.
        autocast: the context of a training step.
        rows: how many rows; see `telling_rows`.
        length: tokens of each.
        images: the pictures of each, or how many of the size that the config names.
    """
    with on_shapes(mode, autocast), Ledger(rows, resident(module)) as ledger:
        batch = _batch(module, rows, length, images)  # which a step holds to its end
        hidden = module.hidden_states(batch)
        kept = ledger.now
        module.logits(hidden[:1, :1].detach())  # autocast keeps a copy of a head that is trained
        handed = _HandedOver.apply(hidden)  # type: ignore[no-untyped-call, unused-ignore]
        del hidden  # the backward pass lets go of it when it has used it
        if handed.requires_grad:
            handed.backward()
    return BackboneBytes(kept=kept, peak=ledger.peak)


def reference_bytes(
    module: ReferencedModule,
    mode: FakeTensorMode,
    autocast: Autocast,
    *,
    rows: int,
    length: int,
    images: Pictures | int,
) -> BackboneBytes:
    """Measure the same pass of the reference, which keeps nothing for a backward pass; `kept` are its hidden states."""
    assert module.model is not None
    # One that begins at an adapter has its LoRA layers in use.
    start = torch.no_grad() if module.adapter is not None else Reference(module.model, of_adapter=False).in_place()
    with on_shapes(mode, autocast), Ledger(rows, resident(module)) as ledger, start:
        batch = _batch(module, rows, length, images)  # which a step holds to its end
        hidden = module.hidden_states(batch)
        kept = ledger.now
        del hidden
    return BackboneBytes(kept=kept, peak=ledger.peak)


def _batch(module: AnsweredModule, rows: int, length: int, images: Pictures | int) -> TokenBatch:
    inputs = text_inputs(module, rows, length)
    if isinstance(images, Pictures):
        inputs |= images.inputs(rows, length)
    elif images:
        inputs |= image_inputs(module.base, rows * images)
    return TokenBatch(inputs=inputs, labels=torch.empty(rows, length, dtype=torch.long), ids=[])


def set_checkpointing(module: VisionLanguageModule, on: bool) -> None:
    """Let the model recompute its activations, where the run would or else wherever it can, or keep them."""
    base: Any = module.base
    if on:
        assert module.family is not None
        recompute_activations(base, module.family, module.recomputed or LAYERED)
    else:
        base.activation_checkpointing_disable()


def head_bytes(
    module: AnsweredModule, mode: FakeTensorMode, autocast: Autocast, *, rows: int, length: int, supervised: int
) -> int:
    """The most that head and loss add to the hidden states, over `supervised` positions of each of `rows` rows."""

    def loss(hidden: Tensor) -> Tensor:
        chosen = hidden.flatten(0, 1)[torch.empty(rows * supervised, dtype=torch.long)]
        targets = torch.empty(len(chosen), dtype=torch.long)
        if isinstance(module, ReferencedModule):
            return token_log_probs(chosen, targets, module.logits).sum()
        return chunked_cross_entropy(chosen, targets, module.logits)

    return _head_peak(module, mode, autocast, loss, rows, length)


def plain_head_bytes(
    module: AnsweredModule, mode: FakeTensorMode, autocast: Autocast, *, rows: int, length: int
) -> int:
    """The most that a head on whole rows adds, its logits [B, L, V] cast to float32 for the loss."""

    def loss(hidden: Tensor) -> Tensor:
        logits = module.logits(hidden).float().flatten(0, 1)
        return F.cross_entropy(logits, torch.empty(len(logits), dtype=torch.long), reduction="sum")

    return _head_peak(module, mode, autocast, loss, rows, length)


def _head_peak(
    module: AnsweredModule,
    mode: FakeTensorMode,
    autocast: Autocast,
    loss: Callable[[Tensor], Tensor],
    rows: int,
    length: int,
) -> int:
    width = module.base.config.get_text_config().hidden_size  # type: ignore[operator, union-attr]
    shape, dtype = (rows, length, width), _hidden_dtype(module)
    with mode, autocast(), Ledger(1, resident(module)) as ledger:
        seed = torch.empty((), requires_grad=True)
        loss(_GivenHidden.apply(seed, shape, dtype)).backward()  # type: ignore[no-untyped-call]
    peak: int = ledger.peak.at(1)
    return peak - math.prod(shape) * dtype.itemsize


def _hidden_dtype(module: AnsweredModule) -> torch.dtype:
    """The dtype of the last hidden states: that of the norm's scale, which is cast with its part."""
    dtype = module.base.get_input_embeddings().weight.dtype  # type: ignore[operator]
    assert isinstance(dtype, torch.dtype)
    return dtype


@dataclass(frozen=True, kw_only=True)
class OptimizerBytes:
    """What an optimizer keeps, and the most it takes on top of that while it clips and steps."""

    name: str
    states: int
    step: int


def optimizer_bytes(module: VisionLanguageModule) -> OptimizerBytes:
    """Let the run's optimizer take a step on shapes alone.

    Raises:
        ConfigError: it decides by what gradients are.
    """
    assert module.family is not None
    groups: Any = parameter_groups(module.base, module.family, module.parts, module.learning_rate, decay=module.decay)
    optimizer = module.optimizer(groups)
    _as_on_a_gpu(optimizer)
    parameters = module.trainable_parameters()
    try:
        optimizer.step()  # makes the states
        # A table that all states share is one tensor, named often.
        held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        with Ledger(1, [*resident(module), *held]) as ledger:
            clip(parameters, module.gradient_clip)
            optimizer.step()
    except DataDependentOutputException as error:
        raise ConfigError(
            f"{type(optimizer).__name__} decides by the gradients' values, so its memory is not known ahead. Name "
            "another optimizer, such as torch.optim.AdamW, to see the rest."
        ) from error
    return OptimizerBytes(name=type(optimizer).__name__, states=tensor_bytes(held), step=ledger.peak.at(1))


def _as_on_a_gpu(optimizer: Optimizer) -> None:
    """There torch steps all parameters of a group together, which takes a copy of them in between."""
    for group in optimizer.param_groups:
        if "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = True
