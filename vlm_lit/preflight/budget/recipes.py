"""Recipes that a budget compares: full fine-tuning, LoRA, LoRA on 8 bits, QLoRA, a classifier's, and the run's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from vlm_lit.models.families import PART_NAMES, Family
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.quantization import QUANTIZED, Precision

_ADAPTED: Final[dict[str, Precision]] = {"LoRA": "bf16", "int8": "int8", "QLoRA": "nf4"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A way to train: its name, its table of parts, and whether it is the one that is configured."""

    name: str
    parts: PartsSettings
    configured: bool = False


def recipes(parts: PartsSettings, family: Family) -> list[Recipe]:
    """Full fine-tuning, LoRA on a 16-bit base, LoRA on an 8-bit base, QLoRA; and the run's own parts where it is none.

    Each changes the language model alone; full fine-tuning trains projector, embeddings and head as well. Whatever else
    the run says of its parts stays: a vision tower that is frozen there is frozen in all of them.
    """
    whole = {name: _in_full(parts.of(name)) for name in filter(family.roots, PART_NAMES) if name != "vision_tower"}
    words = replace(parts.language_model, training="lora", last_layers=None)
    standard = {"full": replace(parts, **whole)} | {
        name: replace(parts, language_model=replace(words, precision=precision)) for name, precision in _ADAPTED.items()
    }
    return _with_own(standard, parts)


_LAST: Final = 2


def class_recipes(parts: PartsSettings) -> list[Recipe]:
    """What a classifier can train: all, its last layers, LoRA, LoRA on a 4-bit base, the head alone; and the run's own.

    The head is always trained in full, embeddings only with all. Precisions are the run's but where a way to train
    needs another.
    """
    head, words = _in_full(parts.head), _in_full(parts.language_model)
    below = replace(_in_full(parts.embeddings), training="frozen")
    adapted = replace(words, training="lora")

    def table(language_model: PartSettings, embeddings: PartSettings = below) -> PartsSettings:
        return replace(parts, embeddings=embeddings, language_model=language_model, head=head)

    standard = {
        "all": table(words, _in_full(parts.embeddings)),
        f"last {_LAST}": table(replace(words, last_layers=_LAST)),
        "LoRA": table(adapted),
        "QLoRA": table(replace(adapted, precision="nf4")),
        "head": table(replace(words, training="frozen")),
    }
    return _with_own(standard, parts)


def _with_own(standard: Mapping[str, PartsSettings], parts: PartsSettings) -> list[Recipe]:
    """The standard recipes, and the run's own behind them where it is none of these."""
    found = [Recipe(name=name, parts=asked, configured=_same(asked, parts)) for name, asked in standard.items()]
    if not any(recipe.configured for recipe in found):
        found.append(Recipe(name="this run", parts=parts, configured=True))
    return found


def _in_full(part: PartSettings) -> PartSettings:
    precision = "bf16" if part.precision in QUANTIZED else part.precision
    return replace(part, precision=precision, training="full", last_layers=None)


def _same(one: PartsSettings, other: PartsSettings) -> bool:
    return all(
        replace(one.of(name), learning_rate=None) == replace(other.of(name), learning_rate=None) for name in PART_NAMES
    )
