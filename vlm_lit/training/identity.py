"""What must be the same for a checkpoint to fit a run, and for the run to go on as if it had never stopped?"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from vlm_lit.data.sources import ConversationDataset
from vlm_lit.models.adapter_state import base_identity
from vlm_lit.models.families import PART_NAMES
from vlm_lit.schema import ConfigError

if TYPE_CHECKING:
    from vlm_lit.training.base import VisionLanguageModule

_LIBRARIES: Final = ("torch", "lightning", "transformers", "peft", "bitsandbytes")


def library_versions() -> dict[str, str]:
    """The versions that a result depends on."""
    return {name: version(name) for name in ("vlm_lit", *_LIBRARIES)}


def identity(module: VisionLanguageModule) -> dict[str, Any]:
    """What trained weights belong to: the base, and what was put on it."""
    commit = getattr(getattr(module.base, "config", None), "_commit_hash", None)
    return {
        "base": base_identity(module.model_id, module.revision, commit),
        "parts": {part: vars(module.parts.of(part)) for part in PART_NAMES},
        "lora": dict(vars(module.lora)),
        "quantization": dict(vars(module.quantization)),
        "seed": module.seed,
    }


def course(module: VisionLanguageModule) -> dict[str, Any]:
    """What the data order and the learning rates of a run follow from."""
    data, train = module.data, module.data.datasets["train"]
    return {
        "conversations": len(train) if isinstance(train, ConversationDataset) else None,
        "effective_batch": data.effective_batch,
        "questions_per_row": data.questions_per_row if data.packing else 1,
        "total_steps": data.total_steps,
        "learning_rate": module.learning_rate,
        "schedule": module.schedule,
        "warmup_ratio": module.warmup_ratio,
    }


def check_same(kept: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare what a checkpoint was made with and what this run has.

    Raises:
        ConfigError: they differ; names both values.
    """
    different = [key for key, value in own.items() if kept.get(key) != value]
    if different:
        raise ConfigError(
            f"The checkpoint was made with another {', '.join(different)}: "
            + "; ".join(f"{key} was {kept.get(key)}, is {own[key]}" for key in different)
            + ". Use the config in its run directory, or start a new run from its adapter/ by model.init_args.adapter."
        )
