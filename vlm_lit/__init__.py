"""Fine-tune vision-language models with PyTorch Lightning. Importing the package loads nothing heavy.

What a script or notebook needs is imported when it is first named: `vlm_lit.SupervisedModule`, `vlm_lit.Trainer`, ...
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vlm_lit.data.answers.vocabulary_building import VocabularySettings
    from vlm_lit.data.classifier_datamodule import ClassifierDataModule
    from vlm_lit.data.datamodule import ConversationDataModule
    from vlm_lit.data.preference_datamodule import PreferenceDataModule
    from vlm_lit.data.records.image_tables import ImageTableSettings
    from vlm_lit.data.records.sources import SourceSettings
    from vlm_lit.errors import ConfigError, RecordError, VlmLitError
    from vlm_lit.metrics.catalogue import MetricSettings
    from vlm_lit.models.classifier_parts import ClassifierParts
    from vlm_lit.models.lora_settings import LoraSettings
    from vlm_lit.models.parts import PartSettings, PartsSettings
    from vlm_lit.models.quantization import QuantizationSettings
    from vlm_lit.objectives.preference_losses import PreferenceLossSettings
    from vlm_lit.schema import ClassBatch, Conversation, EvaluationBatch, Prediction, Preference, StepBatch, TokenBatch
    from vlm_lit.training.classifier import ClassifierModule
    from vlm_lit.training.frozen_sharded import FrozenShardedStrategy
    from vlm_lit.training.preference import PreferenceModule
    from vlm_lit.training.supervised import SupervisedModule
    from vlm_lit.training.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "ClassBatch",
    "ClassifierDataModule",
    "ClassifierModule",
    "ClassifierParts",
    "ConfigError",
    "Conversation",
    "ConversationDataModule",
    "EvaluationBatch",
    "FrozenShardedStrategy",
    "ImageTableSettings",
    "LoraSettings",
    "MetricSettings",
    "PartSettings",
    "PartsSettings",
    "Prediction",
    "Preference",
    "PreferenceDataModule",
    "PreferenceLossSettings",
    "PreferenceModule",
    "QuantizationSettings",
    "RecordError",
    "SourceSettings",
    "StepBatch",
    "SupervisedModule",
    "TokenBatch",
    "Trainer",
    "VlmLitError",
    "VocabularySettings",
]

_PLACES: Final = {
    "ClassifierDataModule": "data.classifier_datamodule",
    "ClassifierModule": "training.classifier",
    "ClassifierParts": "models.classifier_parts",
    "VocabularySettings": "data.answers.vocabulary_building",
    "ConversationDataModule": "data.datamodule",
    "ImageTableSettings": "data.records.image_tables",
    "SourceSettings": "data.records.sources",
    "MetricSettings": "metrics.catalogue",
    "ConfigError": "errors",
    "RecordError": "errors",
    "VlmLitError": "errors",
    "FrozenShardedStrategy": "training.frozen_sharded",
    "LoraSettings": "models.lora_settings",
    "PartSettings": "models.parts",
    "PartsSettings": "models.parts",
    "PreferenceDataModule": "data.preference_datamodule",
    "PreferenceLossSettings": "objectives.preference_losses",
    "PreferenceModule": "training.preference",
    "QuantizationSettings": "models.quantization",
    "SupervisedModule": "training.supervised",
    "Trainer": "training.trainer",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES.get(name, 'schema')}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
