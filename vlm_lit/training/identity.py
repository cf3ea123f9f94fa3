"""Identity and course of a run: what a checkpoint has to share with the run that it is loaded into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from textwrap import shorten
from typing import Any, Final

from torch import nn
from transformers import PretrainedConfig

from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.step_datamodule import StepDataModule
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import base_identity
from vlm_lit.models.families import family_of
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.training.data_content import content
from vlm_lit.training.skipped_records import skipped_identity

_LIBRARIES: Final = ("torch", "lightning", "transformers", "peft", "bitsandbytes")
_MOST: Final = 6  # settings that a refusal names
_PLACES: Final = ("path", "annotations", "image_root")
_NOT_OF_COURSE: Final = (
    # Of the identity, and looked at by themselves.
    *("model_id", "revision", "parts", "lora", "quantization", "seed", "answers", "optimizer", "attention"),
    # As in `run_settings`: where a run starts, and what gives the same numbers.
    *("adapter", "activation_checkpointing", "compile_layers", "reference_store"),
    # What is said in evaluations.
    *("metrics", "max_new_tokens", "answer_from", "answer_score", "answer_schema"),
)
"""Arguments of a module that its training does not follow from, or that are compared elsewhere."""
DATA: Final = {"train_data": "train", "val_data": "val"}
"""What holds a split's data files in a checkpoint's course."""
SAID: Final = ("world_size", "micro_batch", "micro_tokens")
"""What a run may go on with another of: word of it is given."""


def library_versions() -> dict[str, str]:
    """The versions that a result depends on."""
    return {name: version(name) for name in ("vlm_lit", *_LIBRARIES)}


def identity_of(
    base: nn.Module,
    named: Mapping[str, Any],
    *,
    parts: PartsSettings,
    lora: LoraSettings,
    quantization: QuantizationSettings,
    seed: int,
) -> dict[str, Any]:
    """What trained weights belong to: the base, named as by `base_named`, and what was put on it."""
    config = getattr(base, "config", None)
    assert isinstance(config, PretrainedConfig)
    return {
        "base": dict(named),
        "parts": parts.stated(family_of(config.model_type)),
        "lora": lora.stated(),
        "quantization": dict(vars(quantization)),
        "seed": seed,
    }


def base_named(config: PretrainedConfig, model_id: str, revision: str | None) -> dict[str, Any]:
    """What names a base whose config was read: see `base_identity`."""
    return base_identity(model_id, revision, getattr(config, "_commit_hash", None))


def course_of(
    data: StepDataModule[Any],
    rates: Mapping[str, Any],
    arguments: Mapping[str, Any],
    *,
    precision: str,
    attention: str | None,
    world_size: int,
) -> dict[str, Any]:
    """What the data order, the learning rates, the training rows and the sums of a run follow from.

    Args:
        data: the data module.
        rates: what the learning rates follow from.
        arguments: those of the module's constructor.
        precision: the trainer's.
        attention: the implementation that the model has.
        world_size: ranks; compared by itself, for the step batches of all ranks together are the same.
    """
    return {
        **data.course(),
        "skipped_records": skipped_identity(data.datasets["train"]),
        **data_files(data.sources),
        "train_source": _as_read(data.sources["train"]),
        **rates,
        "module": {name: value for name, value in arguments.items() if name not in (*rates, *_NOT_OF_COURSE)},
        "precision": precision,
        "attention": attention,
        "world_size": world_size,
        **_micro_batches(data),
    }


def _micro_batches(data: StepDataModule[Any]) -> dict[str, int | None]:
    """What the micro-batches of a step follow from."""
    return {"micro_batch": data.micro_batch.rows, "micro_tokens": getattr(data, "micro_tokens", None)}


def _as_read(source: SourceSettings | None) -> dict[str, Any]:
    """How a source's records are read; where its files lie is looked at by their contents."""
    settings = {} if source is None else asdict(source)
    joined = settings.get("images_from")
    if isinstance(joined, dict):
        joined.pop("path", None)
    return {name: value for name, value in settings.items() if name not in _PLACES}


def data_files(sources: Mapping[str, SourceSettings | None]) -> dict[str, dict[str, str] | None]:
    """The files that a `fit` reads its records from, with what tells their contents."""
    return {key: content(sources[split]) for key, split in DATA.items()}


def check_data(kept: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare the data files that a checkpoint was made with and those of this run.

    Raises:
        ConfigError: one is another, or has other contents; names it.
    """
    for key in DATA:
        was, now = kept.get(key) or {}, own[key] or {}
        different = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        if key in kept and different:
            raise ConfigError(
                f"The {DATA[key]} data are not those that the checkpoint was made with: "
                f"{listed_changes(different, was, now)}. A run goes on with the data it began with: put them back, or "
                "start a new run in another --run_dir."
            )


def check_course(kept: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare the course that a checkpoint was on with this run's, which may be longer.

    Raises:
        ConfigError: they differ, or this run is to end sooner; names what differs with both values.
    """
    planned, total = kept.get("total_steps"), own["total_steps"]
    check_data(kept, own)
    # A checkpoint of an earlier version lacks what was not looked at then.
    looked_at = kept.keys() - {"total_steps", *SAID, *DATA}
    check_same(kept, {key: value for key, value in own.items() if key in looked_at})
    if planned is not None and total < planned:
        raise ConfigError(
            f"The checkpoint is of a run of {planned} optimizer steps, and this one is to have {total}. A run can go "
            "on for longer, not end sooner: its learning rates would be others. Set trainer.max_epochs or "
            "trainer.max_steps at least as high as it was, or stop the run by Ctrl-C where it is long enough."
        )


def other_ranks(kept: Mapping[str, Any], world_size: int) -> str | None:
    """Word of it that a checkpoint's course was on another number of ranks; None where it was not.

    Data whose step batches follow from the number of ranks say so in their own course, and are refused.
    """
    was = kept.get("world_size")
    if was is None or was == world_size:  # an earlier version did not note it
        return None
    return (
        f"The checkpoint was made by {was} {'rank' if was == 1 else 'ranks'} and this run has {world_size}: its step "
        "batches are the same, so its numbers are, up to the order of sums. Dropout, where there is any, draws others."
    )


def other_micro_batches(kept: Mapping[str, Any], data: StepDataModule[Any]) -> str | None:
    """Word of it that a checkpoint's steps were computed in other micro-batches; None where they were not.

    Asked when the run begins: `auto` has found its rows by then.
    """
    own = _micro_batches(data)
    different = [name for name in own if name in kept and kept[name] != own[name]]  # an earlier version noted none
    if not different:
        return None
    return (
        f"The checkpoint was made with another {listed_changes(different, kept, own)}: its loss and gradients are the "
        "same, up to the order of sums. Dropout, where there is any, draws others."
    )


def check_same(kept: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare what a checkpoint was made with and what this run has.

    Raises:
        ConfigError: they differ; names each value that differs, as it was and as it is.
    """
    was, now = leaves(kept), leaves(own)
    within = tuple(f"{key}." for key in own)
    names = [*now, *(key for key in was if key not in now and (key in own or key.startswith(within)))]
    different = [key for key in names if was.get(key) != now.get(key)]
    if different:
        raise ConfigError(
            f"The checkpoint was made with another {listed_changes(different, was, now)}. Use the config in its run "
            "directory, or start a new run from its adapter/ by model.init_args.adapter."
        )


def leaves(settings: object, prefix: str = "") -> dict[str, object]:
    """Nested settings as dotted names; a list is one value, and so is an empty mapping."""
    if not isinstance(settings, Mapping) or (prefix and not settings):
        return {prefix: list(settings) if isinstance(settings, tuple) else settings}
    found: dict[str, object] = {}
    for key, value in settings.items():
        found |= leaves(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def listed_changes(names: Sequence[str], was: Mapping[str, object], now: Mapping[str, object]) -> str:
    """`learning_rate (was 0.001, is 0.01), ...`: the first of the settings that differ, and how many more there are."""
    shown = [f"{name} (was {_shown(was, name)}, is {_shown(now, name)})" for name in names[:_MOST]]
    return ", ".join(shown) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")


def _shown(values: Mapping[str, object], name: str) -> str:
    if name not in values:
        return "not set"
    value = values[name]
    return "null" if value is None else shorten(str(value), 80, placeholder=" ...")
