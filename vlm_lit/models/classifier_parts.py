"""Parts table of a classifier: all that it has is trained in full, unless it is said otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vlm_lit.models.parts import PartSettings, PartsSettings

_FULL: Final = PartSettings(precision="fp32", training="full")
_ABSENT: Final = PartSettings(precision="fp32")


@dataclass(frozen=True, kw_only=True)
class ClassifierParts(PartsSettings):
    """The table that a run of a classifier is asked for, one row a part.

    ViLT has three: its embeddings of words and patches, one transformer for both (`language_model`), and the head.
    """

    vision_tower: PartSettings = _ABSENT
    projector: PartSettings = _ABSENT
    embeddings: PartSettings = _FULL
    language_model: PartSettings = _FULL
    head: PartSettings = _FULL
