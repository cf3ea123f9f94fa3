"""Equality of two ways of computing one step: what each gives, how far apart they are, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import lightning
import torch
from lightning import LightningModule
from torch import Tensor, nn

from vlm_lit.models.families import PART_NAMES
from vlm_lit.models.plain_layers import plain_layers
from vlm_lit.models.quantization import QUANTIZED, QuantizationSettings
from vlm_lit.schema import StepBatch
from vlm_lit.training.protocols import Towered

TOLERANCE: Final = {"fp32": 1e-5, "bf16": 3e-2}
"""Largest relative difference that counts as equal: float32 sums in another order; bfloat16 keeps 8 bits of each."""

Verdict = Literal["equal", "DIFFERENT", "refused"]


@dataclass(frozen=True, kw_only=True)
class Equality:
    """One claim, what was measured, and the verdict.

    `loss` and `gradient` are relative differences, None where the claim is about something else.
    """

    name: str
    claim: str
    verdict: Verdict
    loss: float | None = None
    gradient: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Way:
    """What a way of computing a step gives: its loss, and the gradient of every trained parameter, as one vector."""

    loss: float
    gradient: Tensor


def way(module: LightningModule, loss: Callable[[Any], Tensor], step_batch: StepBatch[Any]) -> Way:
    """Compute a step, and take no step.

    Args:
        module: whose parameters are trained.
        loss: its loss of a micro-batch, a sum.
        step_batch: on the module's device.
    """
    parameters = trained(module)
    for parameter in parameters:
        parameter.grad = None
    summed = 0.0
    for batch in step_batch.micro_batches:
        part = loss(batch) / step_batch.weight
        part.backward()  # type: ignore[no-untyped-call]
        summed += float(part.detach())
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    return Way(loss=summed, gradient=torch.cat([grad.double().flatten() for grad in grads]))


def compared(name: str, claim: str, note: str, one: Way, other: Way, tolerance: float) -> Equality:
    """The equality of two ways but for rounding."""
    loss, gradient = _relative(one.loss, other.loss), distance(one.gradient, other.gradient)
    verdict: Verdict = "equal" if max(loss, gradient) <= tolerance else "DIFFERENT"
    return Equality(name=name, claim=claim, verdict=verdict, loss=loss, gradient=gradient, note=note)


def identical(name: str, claim: str, one: Way, other: Way) -> Equality:
    """The equality of two ways bit for bit."""
    equal = one.loss == other.loss and torch.equal(one.gradient, other.gradient)
    return Equality(
        name=name,
        claim=claim,
        verdict="equal" if equal else "DIFFERENT",
        loss=_relative(one.loss, other.loss),
        gradient=distance(one.gradient, other.gradient),
        note="bit for bit",
    )


def by_plain_layers(measure: Callable[[], Way], tolerance: float) -> Equality:
    """The equality of layers of our own and those of transformers and PEFT, in whose place they run."""
    ours = measure()
    with plain_layers():
        theirs = measure()
    return compared("plain", "layers of vlm_lit = those of transformers and PEFT", "", ours, theirs, tolerance)


def _relative(one: float, other: float) -> float:
    return abs(one - other) / max(abs(other), 1e-12)


def distance(one: Tensor, other: Tensor) -> float:
    """Length of the difference of two tensors [...] over the length of the second."""
    return float((one - other).norm() / other.norm().clamp(min=1e-30))


def trained(module: LightningModule) -> list[nn.Parameter]:
    """The parameters that are trained."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def move(module: LightningModule) -> None:
    """Move the trained weights a little off where they start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trained(module):
            scale = max(float(parameter.std(correction=0)), 1e-2)
            noise = torch.randn(parameter.shape, generator=generator) * 0.1 * scale
            parameter.add_(noise.to(parameter.device, parameter.dtype))


def in_bfloat16(module: LightningModule, trainer: lightning.Trainer) -> bool:
    """Whether anything of a run is computed in bfloat16."""
    quantization = getattr(module, "quantization", None)
    if not (isinstance(module, Towered) and isinstance(quantization, QuantizationSettings)):
        return str(trainer.precision) != "32-true"
    family = module.family
    there = [part for part in PART_NAMES if (family.roots(part) if family is not None else part != "embeddings")]
    precisions = {module.parts.of(part).precision for part in there}
    unpacked = quantization.compute_dtype != "fp32" and bool(precisions & {*QUANTIZED})
    return "bf16" in precisions or unpacked
