"""The step from gradients to new weights: parameter groups, clipping, schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NotRequired, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from vlm_lit.errors import ConfigError
from vlm_lit.models.families import PART_NAMES, Family, owner_of
from vlm_lit.models.parts import PartsSettings

DEFAULT_RATE: Final = 2e-4
DEFAULT_WARMUP: Final = 0.03

Schedule = Literal["cosine", "linear", "polynomial", "constant", "constant_with_warmup"]
Decay = Literal["all", "matrices"]
"""What the optimizer's weight decay is for: everything, or all but biases and norms."""

# As ViLT's recipe has it; transformers' own default ends above zero.
_SHAPES: Final[dict[Schedule, dict[str, Any]]] = {"polynomial": {"power": 1.0, "lr_end": 0.0}}


class ParameterGroup(TypedDict):
    """What an optimizer is given for one part of the model, or for what has no weight decay in it."""

    name: str
    params: list[nn.Parameter]
    lr: float
    weight_decay: NotRequired[float]


def parameter_groups(
    model: nn.Module,
    family: Family,
    parts: PartsSettings,
    learning_rate: float,
    *,
    decay: Decay = "all",
    b_lr_ratio: float = 1.0,
) -> list[ParameterGroup]:
    """The trainable parameters, one group a part, each with its learning rate.

    Args:
        model: the adapted model without its PEFT shell.
        family: its facts.
        parts: what is trained of it, and how fast.
        learning_rate: that of parts which state none.
        decay: `matrices` splits a part in two: its biases and norms, which are vectors, go to a second group
            `PART/no_decay` without weight decay. (ViLT's own list of names leaves out the norm inside its head.)
        b_lr_ratio: learning rate of LoRA's B over the part's, in a group `PART/lora_B`; 1 leaves it in the part's.

    Raises:
        ConfigError: nothing is to be trained.
    """
    groups: list[ParameterGroup] = []
    for part in PART_NAMES:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad and owner_of(n, family) == part]
        faster = [p for n, p in named if ".lora_B." in n] if b_lr_ratio != 1.0 else []
        owned = [p for n, p in named if not faster or ".lora_B." not in n]
        rate = parts.of(part).learning_rate or learning_rate
        vectors = [p for p in owned if p.dim() < 2] if decay == "matrices" else []
        others = [p for p in owned if p.dim() >= 2] if decay == "matrices" else owned
        if others:
            groups.append({"name": part, "params": others, "lr": rate})
        if vectors:
            groups.append({"name": f"{part}/no_decay", "params": vectors, "lr": rate, "weight_decay": 0.0})
        if faster:
            groups.append({"name": f"{part}/lora_B", "params": faster, "lr": rate * b_lr_ratio})
    if not groups:
        raise ConfigError("Every part is frozen, so there is nothing to train. Set a part's training to lora or full.")
    return groups


def learning_rates(optimizer: Optimizer, kind: Schedule, *, warmup_ratio: float, total_steps: int) -> LambdaLR:
    """The learning rates' course over the run, as a factor on each group's own rate; `constant` has no warm-up."""
    warmup = round(warmup_ratio * total_steps)
    if kind == "polynomial":
        warmup = min(warmup, total_steps - 1)  # transformers divides by the steps that are left
    made = get_scheduler(
        kind,
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=total_steps,
        scheduler_specific_kwargs=_SHAPES.get(kind),
    )
    assert isinstance(made, LambdaLR)
    return made


def restate_learning_rates(schedulers: Sequence[object]) -> tuple[float, float]:
    """Set the next step's learning rates to what the schedules now say; those of a checkpoint are another course's.

    Returns:
        The largest rate before, and after.
    """
    before, now = [0.0], [0.0]
    for course in schedulers:
        assert isinstance(course, LambdaLR)
        for group, base, factor in zip(course.optimizer.param_groups, course.base_lrs, course.lr_lambdas, strict=True):
            before.append(float(group["lr"]))
            group["lr"] = base * factor(course.last_epoch)
            now.append(float(group["lr"]))
    return max(before), max(now)


def clip(parameters: Iterable[nn.Parameter], largest_norm: float | None) -> Tensor:
    """Scale the gradients down to a norm of at most `largest_norm`; the norm before that (a scalar)."""
    return torch.nn.utils.clip_grad_norm_(parameters, largest_norm if largest_norm is not None else torch.inf)


def check_numbers(learning_rate: float, warmup_ratio: float, gradient_clip: float | None) -> None:
    """Refuse numbers that no run can use.

    Raises:
        ConfigError: naming the setting.
    """
    # YAML accepts .nan and .inf, and either would train in silence.
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ConfigError(f"model.learning_rate is {learning_rate}; it must be a finite number above zero.")
    if not 0.0 <= warmup_ratio < 1.0:
        raise ConfigError(f"model.warmup_ratio is {warmup_ratio}; it must lie in [0, 1).")
    if gradient_clip is not None and not (math.isfinite(gradient_clip) and gradient_clip > 0):
        raise ConfigError(f"model.gradient_clip is {gradient_clip}; it must be a finite number above zero, or null.")


def check_warmup(schedule: Schedule, warmup_ratio: float) -> None:
    """Refuse a warm-up beside a schedule that has none.

    Raises:
        ConfigError: naming the schedule that has one.
    """
    if schedule == "constant" and warmup_ratio not in (0.0, DEFAULT_WARMUP):
        raise ConfigError(
            f"model.warmup_ratio is {warmup_ratio}, which has no effect: model.schedule is constant, which has no "
            "warm-up. Set model.schedule to constant_with_warmup, or leave warmup_ratio out."
        )


def check_used(learning_rate: float, parts: PartsSettings) -> None:
    """Refuse a learning rate that no part takes, since each that is trained states its own.

    Raises:
        ConfigError: naming those parts.
    """
    trained = [part for part in PART_NAMES if parts.of(part).training != "frozen"]
    if learning_rate == DEFAULT_RATE or not trained or any(parts.of(part).learning_rate is None for part in trained):
        return
    stated = ", ".join(f"parts.{part}.learning_rate is {parts.of(part).learning_rate}" for part in trained)
    raise ConfigError(
        f"model.learning_rate is {learning_rate}, which has no effect: each trained part states its own ({stated}). "
        "Change those, or set them to null to let them take model.learning_rate."
    )
