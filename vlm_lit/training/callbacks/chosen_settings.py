"""Settings by which runs are told apart: about twenty of a config's hundred, as a flat mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vlm_lit.models.families import PART_NAMES
from vlm_lit.training.callbacks.hparams_file import Value

_MODEL, _DATA = "model.init_args", "data.init_args"
_PLAIN: Final = {
    "rank": f"{_MODEL}.lora.rank",
    "alpha": f"{_MODEL}.lora.alpha",
    "lora_dropout": f"{_MODEL}.lora.dropout",
    "targets": f"{_MODEL}.lora.targets",
    "epochs": "trainer.max_epochs",
    "max_steps": "trainer.max_steps",
    "effective_batch": f"{_DATA}.effective_batch",
    "max_length": f"{_DATA}.max_length",
    "schedule": f"{_MODEL}.schedule",
    "warmup_ratio": f"{_MODEL}.warmup_ratio",
    "max_gradient_norm": f"{_MODEL}.gradient_clip",
    "precision": "trainer.precision",
    "seed": "seed_everything",
    "model_id": f"{_MODEL}.model_id",
    "start_adapter": f"{_MODEL}.adapter",
    "train_data": f"{_DATA}.train.path",
}
_RATE: Final = "learning_rate/"

COLUMNS: Final = (*_PLAIN, *(f"{_RATE}{part}" for part in PART_NAMES), "trained", "optimizer")
"""Every name there can be. TensorBoard sorts them by the alphabet and shows the first five at first."""


def chosen_settings(config: Mapping[str, Any]) -> dict[str, Value]:
    """What a run's config chooses, by the names in `COLUMNS`; what it leaves open is left out."""
    values = {name: _at(config, path) for name, path in _PLAIN.items()}
    if values["max_steps"] == -1:  # no limit
        del values["max_steps"]
    trained = _trained(config)
    values |= {f"{_RATE}{part}": settings.get("learning_rate") for part, settings in trained.items()}
    values["trained"] = ", ".join(f"{part} {s.get('precision')} {s.get('training')}" for part, s in trained.items())
    values["optimizer"] = str(_at(config, f"{_MODEL}.optimizer.class_path") or "").rpartition(".")[2]
    return {name: _plain(values[name]) for name in COLUMNS if values.get(name) not in (None, "")}


def _trained(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts that are not frozen, each with the learning rate that it has or takes from the model's."""
    parts, common = _at(config, f"{_MODEL}.parts"), _at(config, f"{_MODEL}.learning_rate")
    found = parts if isinstance(parts, dict) else {}
    settings = {part: found[part] for part in PART_NAMES if isinstance(found.get(part), dict)}
    return {
        part: {**s, "learning_rate": s["learning_rate"] if s.get("learning_rate") is not None else common}
        for part, s in settings.items()
        if s.get("training") != "frozen"
    }


def _at(settings: object, dotted: str) -> object:
    for key in dotted.split("."):
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _plain(value: object) -> Value:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, (bool, int, float, str)) else str(value)
