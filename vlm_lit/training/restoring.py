"""Fit of a checkpoint to the run that reads it: whether its weights are this model's, and its course this run's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch.optim import Optimizer

from vlm_lit.errors import ConfigError
from vlm_lit.training.checkpoint_content import check_complete
from vlm_lit.training.identity import check_course, check_same
from vlm_lit.training.processor_change import check_checkpoint

# Which program wrote it, where, and in which precision it is kept: what is made of it is the same.
_UNUSED: Final = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")
# What a run changes by itself, and how the same numbers are computed.
_OWN: Final = ("params", "lr", "initial_lr", "name", "foreach", "fused", "capturable", "differentiable")


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """What a run has that a checkpoint must have been made with.

    Args:
        identity: what trained weights belong to.
        base_config: the base's own settings; empty where they are not those of a local folder.
        names: the trained parameters, in their optimizer's order.
        processor: what the data's processor is; None where there is no trainer, and so no data.
        course: what the run's numbers follow from besides, and the data module's name; None where nothing is trained.
    """

    identity: Mapping[str, Any]
    base_config: Mapping[str, Any]
    names: list[str]
    processor: Mapping[str, Any] | None = None
    course: Mapping[str, Any] | None = None
    read_by: str | None = None


def check_fits(checkpoint: Mapping[str, Any], own: Fitting) -> None:
    """Refuse a checkpoint that is not of this model, or on another course than this run.

    Raises:
        ConfigError: naming what differs, as it was and as it is, or what is missing.
    """
    check_complete(checkpoint, own.read_by)
    check_same(checkpoint["identity"], own.identity)
    if "base_config" in checkpoint:  # an earlier version did not look at it
        check_same({"base_config": checkpoint["base_config"]}, {"base_config": own.base_config})
    if own.processor is not None:
        check_checkpoint(checkpoint, own.processor, resumes=own.course is not None)
    if own.course is not None:
        check_course(checkpoint["course"], own.course)
    if checkpoint["trainable_names"] != own.names:
        raise ConfigError("The checkpoint's parameters are in another order: optimizer states would be mixed up.")


def base_config(model_id: str) -> dict[str, Any]:
    """The settings in a local base's config.json; none of a hub's, which its commit names."""
    path = Path(model_id) / "config.json"
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: value for name, value in settings.items() if name not in _UNUSED}


# The optimizer -------------------------------------------------------------------------------------------------------


def class_of(optimizer: Optimizer) -> str:
    """An optimizer's class by its path, as a checkpoint names it."""
    return f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"


def check_optimizer(checkpoint: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Compare a run's optimizer with that of the checkpoint that it goes on from, whose options would replace its own.

    Raises:
        ConfigError: its class or an option is another; names each, as it was and as it is.
    """
    groups: list[Mapping[str, Any]] = checkpoint["optimizer_states"][0]["param_groups"]
    was, now = _options(groups), _options(optimizer.param_groups)
    kept = checkpoint.get("optimizer")
    if kept is None and ("betas" in was) != ("betas" in now):  # an earlier version did not name it
        kept = "another one"
    if kept is not None and kept != class_of(optimizer):
        check_same({"optimizer": kept}, {"optimizer": class_of(optimizer)})
    both = was.keys() & now.keys()  # another version of a library has more options
    check_same(
        {"optimizer": {name: value for name, value in was.items() if name in both}},
        {"optimizer": {name: value for name, value in now.items() if name in both}},
    )


def _options(groups: list[Any]) -> dict[str, Any]:
    """An optimizer's options, by name, those that differ between its groups with the group's name before them."""
    found: dict[str, Any] = {}
    for place, group in enumerate(groups):
        for name, value in group.items():
            if name in _OWN:
                continue
            same = all(other.get(name) == value for other in groups)
            found[name if same else f"{group.get('name', place)}.{name}"] = value
    return found
