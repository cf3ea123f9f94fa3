"""Settings of a saved adapter, and the check that a model's low-rank updates are computed by them.

How much an update counts, its scale, stands in `adapter_config.json` alone: the same matrices under another `alpha` are
another model, with the same names and the same shapes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from peft import LoraConfig, PeftConfig, PeftModel

from vlm_lit.errors import ConfigError
from vlm_lit.files.checkpoint_settings import check_settings_file
from vlm_lit.models.bounded_patterns import by_layer, fault, first_that_fits
from vlm_lit.models.frozen_start import START, TRAINED, growth_of_alpha, lora_layers

CONFIG: Final = "adapter_config.json"
OF_BASE: Final = "base_model.model."
"""What PEFT puts before the names of the base."""
_LARGEST_RANK: Final = 65_536
_LONGEST: Final = 200  # characters of a setting that a refusal writes out
_SCALING: Final = {False: "alpha_over_rank", True: "rank_stabilised"}

_ON_THE_BASE: Final = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
"""PEFT's starts that leave the base's weights as they are."""

_ELSEWHERE: Final = frozenset((
    # Compared by themselves: here, and by the names of the weights.
    *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "init_lora_weights", "bias"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"),
    *("ensure_weight_tying",),
    # What an update computes does not follow from these. PEFT sets fan_in_fan_out to false on linear layers.
    *("lora_dropout", "inference_mode", "runtime_config", "loftq_config", "eva_config", "corda_config"),
    *("lora_ga_config", "velora_config", "fan_in_fan_out", "megatron_core", "qalora_group_size"),
    *("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
))  # fmt: skip


def adapter_config(adapter: Path) -> LoraConfig:
    """How the adapter goes on.

    Raises:
        ConfigError: it is no LoRA adapter, or cannot be read.
    """
    path = adapter / CONFIG
    check_settings_file(path)
    try:
        config = PeftConfig.from_pretrained(str(adapter))
    except Exception as error:  # whatever the settings of a stranger run into
        raise ConfigError(f"{path} cannot be read: {error}. Use a folder that fit wrote.") from error
    if not isinstance(config, LoraConfig):
        raise ConfigError(f"{path} is of type {config.peft_type}; only LoRA adapters can be used.")
    _check_rank(f"{path}: r", config.r)
    _check_alpha(f"{path}: lora_alpha", config.lora_alpha)
    for key, check in (("rank_pattern", _check_rank), ("alpha_pattern", _check_alpha)):
        patterns = getattr(config, key) or {}
        if not isinstance(patterns, Mapping):
            raise ConfigError(f"{path}: {key} is {patterns!r:.20}, no values by layer. Use a folder that fit wrote.")
        for pattern, value in patterns.items():
            check(f"{path}: {key} of {pattern!r:.60}", value)
    config.inference_mode = False  # what was trained is what is loaded; PEFT freezes it otherwise
    config.base_model_name_or_path = None  # it warns of a folder that moved; digests have settled whose base this is
    return config


def _check_rank(name: str, rank: object) -> None:
    if not isinstance(rank, int) or not 1 <= rank <= _LARGEST_RANK:
        raise ConfigError(f"{name} is {rank!r:.20}; it must lie in 1..{_LARGEST_RANK:,}.")


def _check_alpha(name: str, alpha: object) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ConfigError(f"{name} is {alpha!r:.20}; it must be a finite number.")


# Whether the model computes by them ----------------------------------------------------------------------------------


def check_kind(model: PeftModel, saved: LoraConfig, path: Path) -> None:
    """Refuse an adapter whose updates are of another kind than the model's, or of another base than its files name.

    Args:
        model: the adapted model.
        saved: the adapter's settings.
        path: their file.

    Raises:
        ConfigError: naming the setting with both values, and what to do.
    """
    own = model.peft_config[TRAINED]
    start = saved.init_lora_weights
    known = start.lower() if isinstance(start, str) else start  # as PEFT reads it
    if known not in _ON_THE_BASE and start != own.init_lora_weights:
        raise ConfigError(
            f"{path}: init_lora_weights is {start}, a start that changes the base's weights, and the folder does not "
            "hold the changed ones. Save the adapter for the unchanged base (in PEFT: save_pretrained with "
            "path_initial_model_for_weight_conversion), or train it again with another start."
        )
    if bool(saved.use_dora) != bool(own.use_dora):
        raise ConfigError(
            f"{path}: use_dora is {_said(saved.use_dora)}, and this run's lora.dora is {_said(own.use_dora)}. Set "
            f"lora.dora to {_said(saved.use_dora)}."
        )
    for one in fields(LoraConfig):
        theirs, ours = (getattr(config, one.name) or None for config in (saved, own))  # an empty list is none
        if one.name not in _ELSEWHERE and theirs != ours:
            raise ConfigError(
                f"{path}: {one.name} is {_said(theirs)}, and the low-rank updates here have {_said(ours)}: the adapter "
                f"would compute something else. Use one that was trained without {one.name}."
            )


def check_biases(saved: LoraConfig, left_over: Iterable[str], path: Path) -> None:
    """Refuse trained biases, which no part here has without being trained in full.

    Args:
        saved: the adapter's settings.
        left_over: names of its weights that the model has no place for.
        path: the settings' file.

    Raises:
        ConfigError: there are such biases.
    """
    biases = sorted(name for name in left_over if name.endswith(".bias"))
    if saved.bias != "none" and biases:
        raise ConfigError(
            f"{path}: bias is {saved.bias}, and the adapter holds {len(biases)} trained biases (first: {biases[0]}); "
            "low-rank updates here have none. Use an adapter that was trained with bias none."
        )


def check_scale(model: PeftModel, saved: LoraConfig, path: Path) -> None:
    """Refuse an adapter whose updates have another rank or another scale than the model's.

    A model with a frozen start takes it from an adapter of twice its rank. The arguments are those of `check_kind`.

    Raises:
        ConfigError: naming the settings of `lora` with both values.
    """
    layers = {name.removeprefix(OF_BASE): layer for name, layer in lora_layers(model)}
    _check_patterns(saved, list(layers), path)
    pairs = 2 if START in model.peft_config else 1
    different = []
    for name, layer in layers.items():
        rank, scale = _rank_and_scale(saved, name)
        own_rank, own_scale = pairs * layer.r[TRAINED], layer.scaling[TRAINED]
        if rank != own_rank or not math.isclose(scale, own_scale, rel_tol=1e-6):
            different.append(
                f"{name} was trained with rank {rank} and scale {scale:g}, and here it has rank "
                f"{own_rank} and scale {own_scale:g}"
            )
    if different:
        more = f" (and {len(different) - 1} more layers)" if len(different) > 1 else ""
        raise ConfigError(
            f"{path}: {different[0]}{more}; what it learned would count otherwise. Set "
            f"{_changes(saved, model, list(layers))}."
        )


def _check_patterns(saved: LoraConfig, names: Sequence[str], path: Path) -> None:
    for key in ("rank_pattern", "alpha_pattern"):
        patterns = list(getattr(saved, key) or {})
        if fault(patterns, names) is not None:
            raise ConfigError(f"{path}: the keys of {key} cannot be matched with names. Use a folder that fit wrote.")
        for pattern in patterns:
            if not any(first_that_fits([pattern], name) for name in names):
                raise ConfigError(
                    f"{path}: {key} has {pattern!r:.100}, which is the name of no layer that has an update here (such "
                    f"as {', '.join(names[:1]) or 'none'}). Write it as the layers are named here, or take it out."
                )


def _rank_and_scale(config: LoraConfig, name: str) -> tuple[int, float]:
    """The rank of a layer's update by an adapter's settings, and what it is multiplied by."""
    ranks, alphas = config.rank_pattern or {}, config.alpha_pattern or {}
    rank = by_layer(ranks, [name]).get(name, config.r)
    alpha = by_layer(alphas, [name]).get(name, config.lora_alpha)
    return rank, alpha / (math.sqrt(rank) if config.use_rslora else rank)


def _changes(saved: LoraConfig, model: PeftModel, names: Sequence[str]) -> str:
    """The settings of `lora` to change, with what they are: `lora.alpha to 64 (is 4) and ...`."""
    own, starts = model.peft_config[TRAINED], START in model.peft_config
    joined = starts and saved.r == 2 * own.r  # the adapter may have been saved with a frozen start, too
    was, now = _settings(saved, joined=joined), _settings(own, joined=False)
    was["start"], now["start"] = ("pissa" if one else "random" for one in (joined, starts))
    changes = [
        f"lora.{key} to {_said(was[key])} (is {_said(now[key])})"
        for key in was
        if not _alike(was[key], now[key], names)
    ]
    return " and ".join(changes) or "lora as the adapter has it"


def _settings(config: LoraConfig, *, joined: bool) -> dict[str, Any]:
    """An adapter's settings as `lora` states them; those of one pair where two are joined."""
    pairs, growth = (2, growth_of_alpha(config.use_rslora)) if joined else (1, 1)
    return {
        "rank": config.r // pairs,
        "alpha": _rounded(config.lora_alpha / growth),
        "scaling": _SCALING[bool(config.use_rslora)],
        "ranks": {name: rank // pairs for name, rank in (config.rank_pattern or {}).items()},
        "alphas": {name: _rounded(alpha / growth) for name, alpha in (config.alpha_pattern or {}).items()},
    }


def _rounded(number: float) -> float:
    return float(f"{number:.9g}")


def _alike(was: object, now: object, names: Sequence[str]) -> bool:
    """Whether two settings are one; patterns are if they give each layer the same."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        return by_layer(was, names) == by_layer(now, names)
    return was == now


def _said(value: object) -> str:
    """A setting as a config writes it."""
    text = json.dumps(value if value != {} else None, default=str)
    return text.strip('"') if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
