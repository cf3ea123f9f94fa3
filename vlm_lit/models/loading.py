"""Loading of a checkpoint, every part in the precision that it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.utils.hub import cached_file

from vlm_lit.errors import ConfigError
from vlm_lit.files.checkpoint_settings import check_checkpoint_settings, check_settings_file, names_code
from vlm_lit.models.causal_attention import attend_in_chunks
from vlm_lit.models.element_wise import join_element_wise
from vlm_lit.models.families import PART_NAMES, Family, Task, check_task, family_of, owner_of
from vlm_lit.models.frozen_products import multiply_frozen
from vlm_lit.models.last_layer import narrow_last_layer
from vlm_lit.models.load_errors import refuse_pointers, refuse_quantized, refuse_stored_weights, why
from vlm_lit.models.loading_bar import without_loading_bar
from vlm_lit.models.parts import PartsSettings, refuse_absent_parts
from vlm_lit.models.quantization import (
    DTYPES,
    QUANTIZED,
    QuantizationSettings,
    check_quantized,
    check_shapes,
    keep_weights_unpacked,
    quantization_config,
)
from vlm_lit.models.rotary_sections import refuse_rotary_sections
from vlm_lit.models.tower_boundary import with_boundary
from vlm_lit.models.tower_chunks import look_in_chunks
from vlm_lit.models.tower_element_wise import order_tower
from vlm_lit.models.unread_blocks import skip_unread_blocks


def load_config(model_id: str, revision: str | None = None) -> PretrainedConfig:
    """The checkpoint's config, from a local folder or the hub.

    Raises:
        ConfigError: there is no such checkpoint, or it cannot be read.
    """
    looks_local = model_id.startswith((".", "/", "~")) or model_id.count("/") != 1
    if not Path(model_id).is_dir() and looks_local:
        raise ConfigError(f"model_id {model_id!r} is not a folder here. Write the path of a checkpoint, or a hub id.")
    refuse_pointers(Path(model_id))
    check_checkpoint_settings(Path(model_id))
    try:
        config = AutoConfig.from_pretrained(model_id, revision=revision)
    except MemoryError:
        raise
    except Exception as error:  # whatever the settings of a stranger run into
        raise ConfigError(
            f"model_id {model_id!r} cannot be loaded, neither as a folder nor from the hub: {why(error, model_id)}"
        ) from error
    if not Path(model_id).is_dir():
        check_settings_file(Path(cached_file(model_id, "config.json", revision=revision)))
    refuse_rotary_sections(config, model_id)
    return config


def check_family(model_id: str, revision: str | None, task: Task = "generate") -> None:
    """Refuse an unknown architecture, in a folder before transformers does: only we can say what to add where.

    Raises:
        ConfigError: it is in no family, answers in another way than `task` says, or there is no such checkpoint.
    """
    if (Path(model_id) / "config.json").is_file():
        settings: dict[str, Any] = {}
        check_checkpoint_settings(Path(model_id))
        with suppress(OSError):  # a broken one is `load_config`'s to name
            settings, _ = PretrainedConfig.get_config_dict(model_id)
        if "model_type" in settings:
            check_task(settings["model_type"], task)
    check_task(load_config(model_id, revision).model_type, task)


def load_dtype(parts: PartsSettings) -> torch.dtype:
    """The dtype to read weights in: float32 if any part is kept so, else bfloat16. Parts are cast down afterwards."""
    return torch.float32 if "fp32" in parts.precisions.values() else torch.bfloat16


@dataclass(frozen=True, kw_only=True)
class ReadCheckpoint:
    """A model as its files gave it, before its parts have their precision.

    Args:
        model: the model, its quantized layers quantized.
        family: its facts.
        missing: names of its parameters that the files lack, or have in another shape; they hold random numbers.
        unused: names in the files that the model has no place for.
    """

    model: PreTrainedModel
    family: Family
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def load_base(
    model_id: str,
    *,
    parts: PartsSettings,
    quantization: QuantizationSettings,
    revision: str | None = None,
    attention: str | None = None,
    device: torch.device | None = None,
) -> tuple[PreTrainedModel, Family]:
    """Load a checkpoint that generates text with each part in its precision, and prove it.

    The arguments are those of `read_checkpoint`. A classifier is loaded by `answer_head.load_classifier`.

    Raises:
        ConfigError: unknown family or checkpoint, a part that it does not have, weights that are not those of the whole
            model, or a layer that did not get the asked precision.
    """
    read = read_checkpoint(
        model_id, parts=parts, quantization=quantization, revision=revision, attention=attention, device=device
    )
    refuse_incomplete(read, model_id)
    base = with_precisions(read, parts)
    return base, with_boundary(base, read.family, parts)


def refuse_incomplete(read: ReadCheckpoint, model_id: str) -> None:
    """Refuse weights that are not those of the whole model, a classifier's head aside.

    What is missing would be random numbers, and a decoder layer too many would be read past.

    Raises:
        ConfigError: parameters are missing, have another shape, or are of layers that config.json does not count.
    """
    family = read.family
    lacking = [name for name in read.missing if family.task == "generate" or owner_of(name, family) != "head"]
    if lacking:
        below = " below its head" if family.task == "classify" else ""
        raise ConfigError(
            f"The weights of {model_id!r} lack {len(lacking)} parameters of the model{below}, or have them in another "
            f"shape; the first is {lacking[0]}. Fetch them again, or name a checkpoint of this architecture."
        )
    more = [name for name in read.unused if name.startswith(f"{family.decoder_layers}.")]
    if more:
        layers = len(read.model.get_submodule(family.decoder_layers))
        raise ConfigError(
            f"The weights of {model_id!r} have {len(more)} parameters that its config.json has no place for; the first "
            f"is {more[0]}, and config.json counts {layers} decoder layers. Fetch the checkpoint's files again."
        )


def read_checkpoint(
    model_id: str,
    *,
    parts: PartsSettings,
    quantization: QuantizationSettings,
    revision: str | None = None,
    attention: str | None = None,
    device: torch.device | None = None,
    task: Task = "generate",
    dropout: float | None = None,
) -> ReadCheckpoint:
    """Read a checkpoint's weights.

    Args:
        model_id: local folder or hub id; only safetensors weights are read and no remote code is run.
        parts: the asked precision of each part.
        quantization: how nf4, fp4 and int8 parts are stored.
        revision: branch, tag or commit on the hub.
        attention: transformers' attention implementation (eager, sdpa, flash_attention_2); null takes its default.
        device: where quantized weights are made; null for the CPU.
        task: how the model must answer. Of a classifier, weights may be missing or have another shape.
        dropout: probability of the dropout that the architecture was published with; null leaves what its config says.

    Raises:
        ConfigError: unknown family or checkpoint, one for another task, a part or a dropout that it does not have.
    """
    if names_code(attention):
        raise ConfigError(
            f"attention is {attention}, a repository whose code would be fetched and run. Use eager, sdpa or another "
            "name that transformers knows."
        )
    config = load_config(model_id, revision)
    check_task(config.model_type, task)
    family = family_of(config.model_type)
    refuse_absent_parts(family, config.model_type, parts)
    refuse_quantized(config, model_id)
    refuse_stored_weights(Path(model_id), family.auto_class)
    refuse_tied_head(config, family, parts)
    changed = with_dropout(config, family, dropout)
    bits = quantization_config(parts.precisions, family, quantization)
    try:
        with without_loading_bar():
            model, info = family.auto().from_pretrained(
                model_id,
                revision=revision,
                dtype=load_dtype(parts),
                quantization_config=bits,
                attn_implementation=attention,
                device_map={"": device} if device is not None and device.type != "cpu" else None,
                use_safetensors=True,
                ignore_mismatched_sizes=task == "classify",
                output_loading_info=True,
                **changed,
            )
    except ImportError as error:
        raise ConfigError(f"The weights of {model_id!r} cannot be loaded: {why(error, model_id)}") from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # damaged files end in errors of every type
        raise ConfigError(f"The weights of {model_id!r} cannot be loaded: {_advised(error, model_id)}") from error
    missing = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    unused = tuple(sorted(info["unexpected_keys"]))
    return ReadCheckpoint(model=model, family=family, missing=tuple(sorted(missing)), unused=unused)


def original_weights(
    model_id: str, revision: str | None, parts: PartsSettings, task: Task = "generate"
) -> Callable[[str], Tensor]:
    """The weights [O, I] of linear layers by name, as quantization finds them: read anew, in main memory."""
    plain = {
        part: replace(parts.of(part), precision="bf16") for part in PART_NAMES if parts.of(part).precision in QUANTIZED
    }
    read = read_checkpoint(
        model_id, parts=replace(parts, **plain), quantization=QuantizationSettings(), revision=revision, task=task
    )

    def weight(name: str) -> Tensor:
        found = read.model.get_submodule(name).weight
        assert isinstance(found, Tensor)
        assert found.dtype == load_dtype(parts)
        return found.detach()

    return weight


def with_dropout(config: PretrainedConfig, family: Family, dropout: float | None) -> dict[str, float]:
    """The fields of a config that a dropout changes, with their values; none for None.

    Raises:
        ConfigError: the architecture has no dropout to set, or it is none.
    """
    if dropout is None:
        return {}
    if family.dropout is None:
        raise ConfigError(f"dropout is {dropout}, but model type {config.model_type!r} has none to set. Leave it out.")
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"dropout is {dropout}; it must lie in [0, 1).")
    return {family.dropout: dropout}


def with_precisions(read: ReadCheckpoint, parts: PartsSettings) -> PreTrainedModel:
    """The model with each part in its precision, proven.

    Raises:
        ConfigError: a layer did not get the asked precision, or has weights of another shape.
    """
    cast_parts(read.model, read.family, parts)
    look_in_chunks(read.model, read.family)
    skip_unread_blocks(read.model, read.family)
    order_tower(read.model, read.family)
    narrow_last_layer(read.model, read.family)
    join_element_wise(read.model)
    keep_weights_unpacked(read.model)
    multiply_frozen(read.model)
    attend_in_chunks()
    check_quantized(read.model, read.family, parts.precisions)
    check_shapes(read.model)
    return read.model


def _advised(error: BaseException, model_id: str) -> str:
    """Why weights are not loaded, with what helps: to fetch them again, where nothing else is known."""
    reason = why(error, model_id)
    return reason if "Set attention" in reason else f"{reason.rstrip('.')}. Fetch them again."


def refuse_tied_head(config: PretrainedConfig, family: Family, parts: PartsSettings) -> None:
    """Refuse to quantize a head that is the embedding matrix.

    Raises:
        ConfigError: the checkpoint's head is tied and its part asks for a quantized precision.
    """
    tied = getattr(config, "tie_word_embeddings", False) or getattr(
        config.get_text_config(), "tie_word_embeddings", False
    )
    # A classifier's config may say so too: it means the head that predicts words, which is not there.
    if tied and family.task == "generate" and parts.head.precision in QUANTIZED:
        raise ConfigError(
            f"head.precision is {parts.head.precision}, but this checkpoint's head shares its weights with the word "
            "embeddings, which cannot be quantized. Use bf16 or fp32."
        )


def cast_parts(model: nn.Module, family: Family, parts: PartsSettings) -> None:
    """Cast the unquantized parts to their stored precision, in place."""
    for name, parameter in model.named_parameters():
        owner = owner_of(name, family)
        if owner is not None and parts.of(owner).precision in DTYPES and parameter.is_floating_point():
            parameter.data = parameter.data.to(DTYPES[parts.of(owner).precision])
