"""Check that a step moves every parameter that is to be trained, and no other.

One real step: the module's own loss, forward, backward, clipping, the run's optimizer. It differs from the run's first
step in three ways, each because that step would hide something. Learning rates are those of the end of the warm-up,
which begins at zero. Weight decay is off: it moves a parameter that no gradient reaches. And LoRA's B, which starts at
zero, holds small random values: A's gradient is B's times something, so zero in any run's first step, right or wrong.
What moved is decided by the bytes of every parameter before and after.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from lightning import LightningModule
from torch import Tensor, nn

from vlm_lit.data.sampler import derive_seed
from vlm_lit.errors import VlmLitError
from vlm_lit.models.families import PART_NAMES
from vlm_lit.preflight.held_model import OTHER, held_model
from vlm_lit.schema import StepBatch
from vlm_lit.training.optimization import clip, parameter_groups
from vlm_lit.training.protocols import Stepped, Trains

_B_SPREAD: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class PartFlow:
    """Tensors of one part: how many are trained, how many of these moved, and so on. `gradient` is its norm."""

    part: str
    trainable: int
    moved: int
    frozen: int
    frozen_moved: int
    gradient: float


@dataclass(frozen=True, kw_only=True)
class GradientFlow:
    """What a step did. `unmoved_trainable` gives, by parameter, why it stood still."""

    unmoved_trainable: dict[str, str] = field(default_factory=dict)
    moved_frozen: list[str] = field(default_factory=list)
    parts: list[PartFlow] = field(default_factory=list)


def gradient_flow(module: LightningModule, step_batch: StepBatch[Any]) -> GradientFlow:
    """Make one step on `step_batch`, already on the module's device. The module is spoiled by it.

    Raises:
        VlmLitError: loss or gradient are not finite, or nothing is to be trained.
    """
    assert isinstance(module, Trains)
    wake_lora(module)
    before = digests(module)
    norms = real_step(module, step_batch, run_optimizer(module))
    return compare(module, before, norms)


def real_step(
    module: LightningModule, step_batch: StepBatch[Any], optimizer: torch.optim.Optimizer
) -> dict[str, float | None]:
    """Forward, backward, clip and step; the norm of each parameter's gradient, None where it had none.

    Raises:
        VlmLitError: loss or gradient are not finite.
    """
    assert isinstance(module, Trains)
    optimizer.zero_grad()
    torch.manual_seed(derive_seed("inspect", int(getattr(module, "seed", 0))))
    for batch in step_batch.micro_batches:
        loss = module.loss(batch) / step_batch.weight
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    trained = [p for p in module.parameters() if p.requires_grad]
    norm = float(clip(trained, None))
    if not math.isfinite(norm):
        named = ", ".join(step_batch.ids)
        raise VlmLitError(
            f"The gradient of the inspected conversations has norm {norm}. Look at these records: {named}."
        )
    norms = {name: _norm(p.grad) for name, p in _named(module).items()}
    clip(trained, getattr(module, "gradient_clip", None))
    optimizer.step()
    return norms


def no_step(module: LightningModule, why: str) -> GradientFlow:
    """What is to be said where no step could be made: nothing that is to be trained has moved."""
    names = [name for name, parameter in _named(module).items() if parameter.requires_grad]
    return GradientFlow(unmoved_trainable=dict.fromkeys(names, why))


def wake_lora(module: nn.Module) -> None:
    """Give every LoRA B that is still zero small values, the same ones each time."""
    generator = torch.Generator().manual_seed(derive_seed("lora_B"))
    for name, parameter in module.named_parameters():
        if "lora_B" in name and parameter.requires_grad and not parameter.any():
            drawn = torch.randn(parameter.shape, generator=generator) * _B_SPREAD
            parameter.data.copy_(drawn)


def run_optimizer(module: LightningModule) -> torch.optim.Optimizer:
    """The run's optimizer at its full learning rates, without weight decay."""
    if isinstance(module, Stepped):
        held = held_model(module)
        ratio = getattr(getattr(module, "lora", None), "b_lr_ratio", 1.0)
        groups: Any = parameter_groups(held.base, held.family, module.parts, module.learning_rate, b_lr_ratio=ratio)
        optimizer = module.optimizer(groups)
    else:
        optimizer = _configured(module)
    for group in optimizer.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
    return optimizer


def _configured(module: LightningModule) -> torch.optim.Optimizer:
    """The one optimizer of a module of the user's own, its schedule not yet begun."""
    found: Any = module.configure_optimizers()
    while isinstance(found, (list, tuple, dict)) and found:
        found = found["optimizer"] if isinstance(found, dict) else found[0]
    if not isinstance(found, torch.optim.Optimizer):
        raise VlmLitError(f"{type(module).__name__}.configure_optimizers gives no optimizer, so no step can be made.")
    for group in found.param_groups:
        group["lr"] = group.get("initial_lr", group["lr"])  # a schedule has one already, and may begin at zero
    return found


def digests(module: LightningModule) -> dict[str, bytes]:
    """A digest of the bytes of every parameter, by name."""
    return {name: _digest(parameter) for name, parameter in _named(module).items()}


def _named(module: LightningModule) -> dict[str, nn.Parameter]:
    """Every parameter, under a name that starts with its part's path."""
    held = held_model(module)
    return {held.name(name): parameter for name, parameter in module.named_parameters()}


def _digest(parameter: Tensor) -> bytes:
    flat = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(flat.numpy().data, digest_size=16).digest()


def compare(module: LightningModule, before: Mapping[str, bytes], norms: Mapping[str, float | None]) -> GradientFlow:
    """What has changed since `before`.

    Args:
        module: the module after the step.
        before: its `digests` from before.
        norms: the norm of each parameter's gradient; None where it had none.
    """
    named, after = _named(module), digests(module)
    moved = {name for name in named if after[name] != before[name]}
    trained = {name for name, parameter in named.items() if parameter.requires_grad}
    return GradientFlow(
        unmoved_trainable={name: _why(norms.get(name)) for name in named if name in trained - moved},
        moved_frozen=[name for name in named if name in moved - trained],
        parts=_by_part(module, trained, moved, norms),
    )


def _by_part(
    module: LightningModule, trained: set[str], moved: set[str], norms: Mapping[str, float | None]
) -> list[PartFlow]:
    held = held_model(module)
    owners = {held.name(name): held.part(name) for name, _ in module.named_parameters()}
    rows = []
    for part in (*filter(held.family.roots, PART_NAMES), *([OTHER] if OTHER in owners.values() else [])):
        own = {name for name, owner in owners.items() if owner == part}
        rows.append(
            PartFlow(
                part=part,
                trainable=len(own & trained),
                moved=len(own & trained & moved),
                frozen=len(own - trained),
                frozen_moved=len((own - trained) & moved),
                gradient=math.hypot(*(norms.get(name) or 0.0 for name in own)),
            )
        )
    return rows


def _norm(gradient: Tensor | None) -> float | None:
    return float(gradient.float().norm()) if gradient is not None else None


def _why(norm: float | None) -> str:
    if norm is None:
        # LLaVA reads its tower before the last layers: those are trainable where the whole tower is, and idle.
        return "no gradient reaches it: either the model does not use it, or the graph is cut before it"
    return "its gradient is zero" if norm == 0.0 else "its step is too small to change a bit: raise its learning rate"
