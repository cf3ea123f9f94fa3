"""Check that a run prepares images and words as the weights that it takes over were trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lightning.pytorch.utilities import rank_zero_warn
from transformers import ProcessorMixin

from vlm_lit.data.checkpoint.processors import backend_of, load_processor, processor_identity, settings_of
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import FINGERPRINT
from vlm_lit.models.families import family_of
from vlm_lit.models.loading import load_config
from vlm_lit.models.merge.base_source import read_fingerprint

_FILES: Final = {
    "class": "class of the processor",
    "image_processor": "image settings",
    "image_processor_class": "class of the image processor",
    "chat_template_sha256": "chat template",
}
"""What follows from the checkpoint's files, and what a user calls it."""

_SET: Final[dict[str, object]] = {"image_processor": {}, "pad_to_square": False}
"""A run's own image settings, and what they are where nothing is set."""


def processor_of_run(base: Path, fingerprint: Mapping[str, Any]) -> tuple[ProcessorMixin, list[str]]:
    """The processor of an adapter's base, prepared as its run's was, and in what else it is not the run's.

    Args:
        base: the base's folder.
        fingerprint: the adapter's.

    Raises:
        ConfigError: its chat template is another one, so that the model would read words it was not trained on.
    """
    kept = fingerprint.get("processor") or {}
    turns = family_of(load_config(str(base)).model_type).task == "generate"
    processor = load_processor(str(base), image_backend=backend_of(kept), image_settings=settings_of(kept), turns=turns)
    now = processor_identity(processor)
    # Another version of Pillow is no reason to warn of; the fingerprint says which it was.
    compared = (kept.keys() & now.keys()) - {"image_libraries"}
    different = sorted(key for key in compared if kept[key] != now[key])
    if "chat_template_sha256" in different:
        raise ConfigError(
            f"The chat template in {base} is not the one the adapter was trained with. Put the old one back, or name "
            "an unchanged copy of the base by --base."
        )
    return processor, [f"the processor's {key} is not what the run had; see fingerprint.json." for key in different]


def check_checkpoint(checkpoint: Mapping[str, Any], own: Mapping[str, Any], *, resumes: bool) -> None:
    """Compare the processor that a checkpoint's weights were trained with and this run's.

    Args:
        checkpoint: the checkpoint.
        own: this run's, as `processor_identity` gives it.
        resumes: whether training goes on as if it had never stopped. Elsewhere another processor is only warned of.

    Raises:
        ConfigError: training is to go on with other pixels or other words; names the setting or the file.
    """
    kept = checkpoint.get("processor") or {}  # an older version wrote none
    said = _difference(kept, own, "checkpoint")
    if said and resumes:
        raise ConfigError(f"{said} Or start a new run from its adapter/ by model.init_args.adapter.")
    _warn(said or _versions(kept, own, "checkpoint"))


def check_adapter(adapter: Path, own: Mapping[str, Any]) -> None:
    """Warn where an adapter was trained with another processor than this run's.

    Args:
        adapter: its folder; one without a fingerprint, which others write, does not say.
        own: this run's, as `processor_identity` gives it.

    Raises:
        ConfigError: the fingerprint cannot be read.
    """
    if (adapter / FINGERPRINT).is_file():
        kept = read_fingerprint(adapter).get("processor") or {}
        _warn(_difference(kept, own, "adapter") or _versions(kept, own, "adapter"))


def _warn(said: str | None) -> None:
    if said:
        rank_zero_warn(f"{said} Its answers may not be those that it was trained to give.")


def _difference(kept: Mapping[str, Any], own: Mapping[str, Any], weights: str) -> str | None:
    return _backend(kept, own, weights) or _settings(kept, own, weights) or _files(kept, own, weights)


def _backend(kept: Mapping[str, Any], own: Mapping[str, Any], weights: str) -> str | None:
    was, now = kept.get("image_backend"), own["image_backend"]
    if was is None or was == now:
        return None
    return (
        f"The {weights} was trained with image_backend {was} ({kept['image_processor_class']}), and this run has {now} "
        f"({own['image_processor_class']}), which makes other pixels. Set data.init_args.image_backend to {was}."
    )


def _settings(kept: Mapping[str, Any], own: Mapping[str, Any], weights: str) -> str | None:
    was, now = (identity.get("image_settings") or {} for identity in (kept, own))
    different = [name for name in _SET if was.get(name) != now.get(name)]
    if not kept or not different:
        return None
    return (
        f"The {weights} was trained with {_said(was, different)}, and this run has {_said(now, different)}, which "
        f"makes other pixels. Set {' and '.join(f'data.init_args.{name}' for name in different)} as it was."
    )


def _said(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    return " and ".join(f"{name} {json.dumps(settings.get(name, _SET[name]))}" for name in names)


def _files(kept: Mapping[str, Any], own: Mapping[str, Any], weights: str) -> str | None:
    different = [what for key, what in _FILES.items() if key in kept and kept[key] != own[key]]
    if not different:
        return None
    return (
        f"The {weights} was trained with another {', another '.join(different)} than the files of the base give now. "
        "Put the processor's files back as they were."
    )


def _versions(kept: Mapping[str, Any], own: Mapping[str, Any], weights: str) -> str | None:
    before, now = kept.get("image_libraries") or {}, own["image_libraries"]
    different = [name for name in now if name in before and before[name] != now[name]]
    if not different:
        return None
    return (
        f"The {weights} was trained with {_listed(before, different)}, and this machine has {_listed(now, different)}, "
        "which may make slightly other pixels."
    )


def _listed(versions: Mapping[str, str], names: list[str]) -> str:
    return " and ".join(f"{name} {versions[name]}" for name in names)
