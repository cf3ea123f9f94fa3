"""Saving and loading of the trained weights, with the check that every key is there and used.

`adapter/` is a plain PEFT folder (LoRA matrices and fully trained parts, safetensors) that
`PeftModel.from_pretrained` loads without this package, with `fingerprint.json` beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key

from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import write_folder_whole
from vlm_lit.models.adapter_settings import CONFIG, OF_BASE, adapter_config, check_biases, check_kind, check_scale
from vlm_lit.models.finite import check_weights
from vlm_lit.models.frozen_start import TRAINED, join_saved, joined_shape, take_start

WEIGHTS = "adapter_model.safetensors"
FINGERPRINT = "fingerprint.json"


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """The trained parameters by name, detached. Nothing frozen is in it; shapes are the parameters' own, [...]."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def load_trainable_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy `state` into the trainable parameters, each name and shape [...] accounted for.

    Raises:
        ConfigError: a parameter is missing, left over or of another shape.
    """
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _same_keys(set(own), set(state), "checkpoint")
    with torch.no_grad():
        for name, parameter in own.items():
            if parameter.shape != state[name].shape:
                raise ConfigError(
                    f"The checkpoint's {name} has shape {tuple(state[name].shape)}, the model's "
                    f"{tuple(parameter.shape)}. Use the config (rank, targets, base) it was trained with."
                )
            parameter.copy_(state[name])


def _same_keys(expected: set[str], found: set[str], what: str) -> None:
    missing, extra = sorted(expected - found), sorted(found - expected)
    if missing or extra:
        raise ConfigError(
            f"The {what} does not fit the model: {len(missing)} parameters missing (first: {missing[:2]}), "
            f"{len(extra)} left over (first: {extra[:2]}). Use the config (base, parts, lora) it was trained with."
        )


def save_adapter(model: PeftModel, directory: Path, fingerprint: Mapping[str, object]) -> None:
    """Write the PEFT folder with its fingerprint; a folder of that name is replaced only once the new one is whole.

    Raises:
        VlmLitError: weights are no numbers; nothing is written.
    """

    def fill(staging: Path) -> None:
        model.save_pretrained(str(staging), save_embedding_layers=False, selected_adapters=[TRAINED])
        join_saved(model, staging / WEIGHTS, staging / CONFIG)
        saved = load_file(staging / WEIGHTS)
        check_weights(saved)
        text = json.dumps({**fingerprint, "keys": sorted(saved)}, indent=2, sort_keys=True)
        (staging / FINGERPRINT).write_text(text + "\n", encoding="utf-8")

    write_folder_whole(directory, fill, replace=True)


def load_adapter(model: PeftModel, directory: Path) -> None:
    """Put a saved adapter onto an already adapted model, in float32, every key used.

    `PeftModel.from_pretrained` alone would cast a float32 projector to the base's bfloat16 and only warn of
    missing keys.

    Raises:
        ConfigError: the folder is no adapter, its updates are computed otherwise than the model's, or its keys or
            shapes do not fit.
    """
    path = directory / WEIGHTS
    if not path.is_file():
        raise ConfigError(f"{directory} holds no {WEIGHTS}. Name the adapter/ folder of a finished run.")
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} cannot be read ({error}). Copy the adapter again.") from error
    settings = directory / CONFIG
    saved = adapter_config(directory) if settings.is_file() else None
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    state = _named_as_now(model, state, own.keys())
    if saved is not None:
        check_kind(model, saved, settings)
        check_biases(saved, state.keys() - own.keys(), settings)
    _same_keys(set(own), set(state), f"adapter in {directory}")
    if saved is not None:
        check_scale(model, saved, settings)
    for name, tensor in state.items():
        asked = joined_shape(model, name, own[name].shape)
        if asked != tensor.shape:
            raise ConfigError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the model asks for {tuple(asked)}. "
                "Use the lora.rank, the lora.start and the base the adapter was trained with."
            )
    set_peft_model_state_dict(model, take_start(model, state))


def _named_as_now(model: PeftModel, state: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """An adapter's weights by the names that this version of transformers has for them.

    Older ones called LLaVA's layers `language_model.model.layers`. transformers knows them for a base's weights, and
    PEFT goes by that for LoRA matrices alone. A name that the model has stays.
    """
    if state.keys() <= set(own):
        return dict(state)
    base = model.get_base_model()
    transforms = get_model_conversion_mapping(base)
    renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
    found = {}
    for name, tensor in state.items():
        inner, _ = rename_source_key(name.removeprefix(OF_BASE), renamings, [])
        renamed = f"{OF_BASE}{inner}"
        taken = name in own or renamed not in own or renamed in state or renamed in found
        found[name if taken else renamed] = tensor
    return found


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def base_identity(model_id: str, revision: str | None, commit: str | None) -> dict[str, object]:
    """What names the base: hub id, revision and commit, or the digests of a local folder's weight files."""
    folder = Path(model_id)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return {
        "model_id": model_id,
        "revision": revision,
        "commit": commit,
        "weights_sha256": {file.name: file_sha256(file) for file in files},
    }
