"""Merging of an adapter into its 16-bit base, saved as a checkpoint like the base's own.

    merged weight = round(W + alpha / rank * B A)

computed in float32 from W as the base's files hold it and rounded once. Merging into a 4-bit base would quantize the
sum a second time (16 to 32 % of a weight, measured), so the base is always read anew.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from torch import nn
from transformers import GenerationConfig, PreTrainedModel

from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_settings import CONFIG, adapter_config
from vlm_lit.models.adapter_state import FINGERPRINT, load_adapter
from vlm_lit.models.answer_head import fit_head
from vlm_lit.models.bounded_patterns import check_patterns
from vlm_lit.models.families import family_of, owner_of
from vlm_lit.models.kept_settings import kept_settings
from vlm_lit.models.loading import ReadCheckpoint, load_config, load_dtype
from vlm_lit.models.loading_bar import without_load_report, without_loading_bar
from vlm_lit.models.merge.base_source import read_fingerprint
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.models.starts import round_adapted

# Named one by one: a folder of one's own may hold more, and what is copied may be published.
_BESIDE_WEIGHTS: Final = (
    "generation_config.json", "*processor_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "tekken.json", "*.model", "*.jinja", "chat_template.json", "LICENSE*",
    "NOTICE*",
)  # fmt: skip
_INDEX: Final = "model.safetensors.index.json"
_DTYPE_KEYS: Final = ("dtype", "torch_dtype")


def load_model(
    folder: Path | str, dtype: torch.dtype | None = None, answers: Sequence[str] | None = None
) -> PreTrainedModel:
    """The checkpoint in `folder` (or of this hub id), unquantized, in `dtype` or else in the one it is stored in.

    Args:
        folder: folder or hub id.
        dtype: the dtype asked for.
        answers: of a classifier, the answers that its head is to have; None for its own.

    Raises:
        ConfigError: it cannot be read, or its weights are not exactly those the architecture has.
    """
    family = family_of(load_config(str(folder)).model_type)
    classifies = family.task == "classify"
    try:
        with without_loading_bar(), without_load_report() if classifies else nullcontext():
            model, info = family.auto().from_pretrained(
                folder, dtype=dtype or "auto", use_safetensors=True, output_loading_info=True,
                ignore_mismatched_sizes=classifies,
            )  # fmt: skip
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # damaged files end in errors of every type
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"The weights in {folder} cannot be loaded: {reason}. Fetch them again.") from error
    missing = sorted({*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])})
    if answers is not None:
        fit_head(ReadCheckpoint(model=model, family=family, missing=tuple(missing), unused=()), answers, seed=0)
        missing = [name for name in missing if owner_of(name, family) != "head"]
    if missing:
        raise ConfigError(f"The weights in {folder} lack {len(missing)} parameters, the first {missing[0]}.")
    assert isinstance(model, PreTrainedModel)
    return model


def image_token(model: nn.Module) -> int | None:
    """The id of the token that stands for a picture's features; None where the config names none."""
    config = getattr(model, "config", None)
    found = getattr(config, "image_token_id", None)
    found = getattr(config, "image_token_index", None) if found is None else found
    return None if found is None else int(found)


def load_tuned(
    folder: Path, adapter: Path, dtype: torch.dtype | None = None, answers: Sequence[str] | None = None
) -> PeftModel:
    """The base in `folder` with the adapter on it, trained weights in float32, every one of them used.

    Raises:
        ConfigError: base or adapter cannot be read, or do not fit each other.
    """
    base, config = load_model(folder, dtype, answers), adapter_config(adapter)
    check_patterns(config, [name for name, _ in base.named_modules()], str(adapter / CONFIG))
    try:
        model = get_peft_model(base, config)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ConfigError(f"The adapter in {adapter} does not fit the base in {folder}: {error}") from error
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    _as_started(model, adapter)
    load_adapter(model, adapter)
    return model


def _as_started(model: PeftModel, adapter: Path) -> None:
    """Give the base the weights that a LoftQ adapter began with: those of layers in 4 bits, unpacked.

    Its update makes up for what these lost. Every other start is an update of the base's own weights.
    """
    file = adapter / FINGERPRINT
    kept = read_fingerprint(adapter) if file.is_file() else {}
    if (kept.get("lora") or {}).get("start") != "loftq":
        return
    parts = kept_settings(PartsSettings, kept.get("parts"), f"{file}: parts")
    quantization = kept_settings(QuantizationSettings, kept.get("quantization"), f"{file}: quantization")
    base = model.get_base_model()
    assert isinstance(base, PreTrainedModel)
    family = family_of(base.config.model_type)
    round_adapted(model, family, parts, double_quant=quantization.double_quant, dtype=load_dtype(parts))


def round_full_parts(model: PeftModel, dtype: torch.dtype) -> None:
    """Cast fully trained parts to `dtype`, as a base of that dtype is run; LoRA matrices stay in float32."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_" not in name:
            parameter.data = parameter.data.to(dtype)


def merge(model: PeftModel, dtype: torch.dtype) -> PreTrainedModel:
    """Make the adapter part of the weights, each computed in float32 and rounded to `dtype` once.

    Memory grows by one layer. `model` is used up.
    """
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            weight = layer.get_base_layer().weight
            weight.data = weight.data.float()
            layer.merge()
            weight.data = weight.data.to(dtype)
    with warnings.catch_warnings():
        # All that is left is to take the shells off, and PEFT says of each layer that it is merged already.
        warnings.filterwarnings("ignore", message="All adapters are already merged")
        merged = model.merge_and_unload()
    assert isinstance(merged, PreTrainedModel)
    _cast(merged, dtype)
    return merged


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
        parameter.requires_grad_(False)


def save_merged(model: PreTrainedModel, base: Path, target: Path) -> None:
    """Write `model` into `target` as the base's own files are: same weight names, configuration and processor files.

    Whatever is not a weight is copied from `base`, since other programs read it as it is there; config.json
    states the new dtype.
    """
    if (base / "generation_config.json").is_file():
        model.generation_config = GenerationConfig()  # the base's own is copied; saving would judge it
    model.save_pretrained(target)
    for pattern in _BESIDE_WEIGHTS:
        for file in base.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, target / file.name)
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    settings = with_dtype(settings, str(model.dtype).removeprefix("torch."))
    if family_of(model.config.model_type).task == "classify":  # its head may be another than the base's
        own = model.config.to_dict()
        settings |= {key: own[key] for key in ("id2label", "label2id")} | {"architectures": [type(model).__name__]}
    (target / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    for file in target.glob("*.safetensors"):
        file.chmod((target / "config.json").stat().st_mode)  # safetensors lets nobody else read what it writes


def with_dtype(settings: dict[str, Any], dtype: str) -> dict[str, Any]:
    """A config.json's settings, nested ones included, with every dtype they name replaced."""
    changed: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            changed[key] = with_dtype(value, dtype)
        else:
            changed[key] = dtype if key in _DTYPE_KEYS and value is not None else value
    if "architectures" in settings and not changed.keys() & set(_DTYPE_KEYS):
        changed["dtype"] = dtype
    return changed


def _weight_map(folder: Path) -> dict[str, str] | None:
    """The file of each tensor, as a checkpoint's index says; None where there is no index."""
    if not (folder / _INDEX).is_file():
        return None
    found: dict[str, str] = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"]
    return found


def weight_files(folder: Path) -> list[Path]:
    """A checkpoint folder's safetensors files."""
    indexed = _weight_map(folder)
    if indexed is not None:
        return [folder / name for name in sorted(set(indexed.values()))]
    return sorted(folder.glob("*.safetensors"))


def weight_names(folder: Path) -> set[str]:
    """The names of the tensors in a checkpoint folder's safetensors files."""
    indexed = _weight_map(folder)
    if indexed is not None:
        return set(indexed)
    names: set[str] = set()
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            names |= set(file.keys())
    return names
