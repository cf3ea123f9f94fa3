"""Start from a saved adapter: whether it belongs to the base and the images of the run that takes it over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from transformers.utils.hub import cached_file

from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import FINGERPRINT
from vlm_lit.models.kept_settings import kept_settings
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.merge.base_source import is_base, read_fingerprint
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.training.foreign_start import differences
from vlm_lit.training.processor_change import check_adapter


def check_origin(
    adapter: Path,
    model_id: str,
    revision: str | None,
    processor: Mapping[str, Any] | None,
    digest: Callable[[Path], str],
) -> None:
    """Refuse an adapter that was trained on another base, and warn where its images were prepared otherwise.

    Args:
        adapter: its folder; of one without a fingerprint, which others write, what else it says is compared.
        model_id: folder or hub id of this run's base.
        revision: its revision on the hub.
        processor: this run's, as `processor_identity` gives it; None where there are no data.
        digest: gives a weight file's SHA-256, asked for only where the fingerprint has some.

    Raises:
        ConfigError: the base is another one, or the fingerprint cannot be read.
    """
    folder = Path(model_id)
    if not folder.is_dir():
        folder = Path(cached_file(model_id, "config.json", revision=revision)).parent
    if not (adapter / FINGERPRINT).is_file():
        for words in differences(adapter, model_id, folder, processor):
            rank_zero_warn(words)
        return
    base = read_fingerprint(adapter)["base"]
    if not is_base(folder, base, elsewhere="Set model.init_args.model_id to an unchanged copy", digest=digest):
        rank_zero_warn(f"Nothing shows whether {model_id} is the base that the adapter in {adapter} was trained on.")
    if processor is not None:
        check_adapter(adapter, processor)


def check_rounded_base(
    adapter: Path, parts: PartsSettings, lora: LoraSettings, quantization: QuantizationSettings
) -> None:
    """Refuse a LoftQ adapter on other weights than the 4-bit ones that it makes up for, or under another name.

    By the name of its start `merge` adds what a run writes to the rounded weights, and any other to the base's own.

    Args:
        adapter: its folder; one without a fingerprint began otherwise, for PEFT's own LoftQ is refused.
        parts: this run's.
        lora: this run's.
        quantization: this run's.

    Raises:
        ConfigError: naming the setting with both values, or the fingerprint cannot be read.
    """
    file = adapter / FINGERPRINT
    kept = read_fingerprint(adapter) if file.is_file() else {}
    began, says = (kept.get("lora") or {}).get("start", "random"), lora.start
    if (began == "loftq") != (says == "loftq"):
        raise ConfigError(
            f"lora.start is {says}, and the adapter in {adapter} began with {began}: `merge` would add what is learned "
            f"to other weights than it is learned on. Set lora.start to {began}; with an adapter nothing is computed "
            "for it."
        )
    if began != "loftq":
        return
    was = kept_settings(PartsSettings, kept.get("parts"), f"{file}: parts")
    rounding = kept_settings(QuantizationSettings, kept.get("quantization"), f"{file}: quantization")
    pairs: dict[str, tuple[object, object]] = {
        f"parts.{name}.precision": (was.of(name).precision, parts.of(name).precision)
        for name in parts.trained_as("lora")
    }
    pairs["quantization.double_quant"] = (rounding.double_quant, quantization.double_quant)
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise ConfigError(
                f"The adapter in {adapter} began with LoftQ, so it makes up for what its own 4-bit weights lost: "
                f"{name} was {theirs}, and is {ours} here. Set it to {theirs}."
            )
