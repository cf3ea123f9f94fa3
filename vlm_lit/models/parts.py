"""The parts table of a model: precision x training x learning rate, as asked for and as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from vlm_lit.errors import ConfigError
from vlm_lit.models.families import PART_NAMES, Family, PartName, owner_of
from vlm_lit.models.quantization import DTYPES, FOUR_BITS, QUANTIZED, Precision, count_precisions

Training = Literal["frozen", "lora", "full"]


@dataclass(frozen=True, kw_only=True)
class PartSettings:
    """One row of the table.

    Args:
        precision: how the part's weights are stored. A fully trained part keeps float32 master weights.
        training: frozen, adapted by LoRA, or trained in full.
        learning_rate: peak learning rate of the part's trainable parameters; null takes the module's.
        last_layers: with training full of the language_model: train only its last N decoder layers, with what the part
            has behind them; with training lora of the vision_tower: LoRA on its last N blocks alone. null trains the
            whole part.
    """

    precision: Precision = "bf16"
    training: Training = "frozen"
    learning_rate: float | None = None
    last_layers: int | None = None

    def __post_init__(self) -> None:
        if self.training == "full" and self.precision in QUANTIZED:
            raise ConfigError(f"A part stored in {self.precision} cannot be trained in full; use training: lora.")
        if self.learning_rate is not None and not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"learning_rate is {self.learning_rate}; it must be a finite number above zero.")
        if self.last_layers is None:
            return
        if self.training == "frozen":
            raise ConfigError(
                f"last_layers is {self.last_layers} where training is {self.training}; there is nothing to train. Set "
                "it to null, or training to full (language_model) or lora (vision_tower)."
            )
        if self.last_layers < 1:
            raise ConfigError(
                f"last_layers is {self.last_layers}; it must be at least 1. To train no layer, set training: frozen."
            )


@dataclass(frozen=True, kw_only=True)
class PartsSettings:
    """The table that a run is asked for, one row a part."""

    vision_tower: PartSettings = PartSettings()
    projector: PartSettings = PartSettings(training="full")
    embeddings: PartSettings = PartSettings()
    language_model: PartSettings = PartSettings(precision="nf4", training="lora")
    head: PartSettings = PartSettings()

    def __post_init__(self) -> None:
        ways: dict[PartName, Training] = {"language_model": "full", "vision_tower": "lora"}
        for part in PART_NAMES:
            layers, training = self.of(part).last_layers, self.of(part).training
            if layers is None or ways.get(part) == training:
                continue
            if part == "language_model":
                why = "it goes with training: full. LoRA on its last layers alone is lora.last_share"
            elif part == "vision_tower":
                why = "it goes with training: lora"
            else:
                why = "only the language_model and the vision_tower are trained by their last layers"
            raise ConfigError(
                f"{part}.last_layers is {layers} with training: {training}, but {why}. Set {part}.last_layers to null."
            )

    def of(self, part: PartName) -> PartSettings:
        """The settings of `part`."""
        settings = getattr(self, part)
        assert isinstance(settings, PartSettings)
        return settings

    def trained_as(self, training: Training) -> list[PartName]:
        """The parts whose training is `training`, in the model's order."""
        return [part for part in PART_NAMES if self.of(part).training == training]

    def stated(self, family: Family) -> dict[str, dict[str, object]]:
        """The rows as they stand beside trained weights: what the architecture lacks is left out, and so is what came
        later than the first checkpoints and is not used."""
        kept = {part: vars(self.of(part)) for part in PART_NAMES if part != "embeddings" or family.roots(part)}
        return {
            part: {name: value for name, value in row.items() if name != "last_layers" or value is not None}
            for part, row in kept.items()
        }

    @property
    def precisions(self) -> dict[PartName, Precision]:
        """The stored precision of each part."""
        return {part: self.of(part).precision for part in PART_NAMES}


@dataclass(frozen=True, kw_only=True)
class PartRow:
    """What a part really holds: counts of parameters, of quantized linear layers, and its learning rate."""

    part: PartName
    parameters: int
    trainable: int
    precision: str
    training: Training
    modules_4bit: int
    lr: float | None


def parameter_count(parameter: nn.Parameter) -> int:
    """Number of weights a parameter stands for; a packed 4-bit one stands for the matrix it was made from."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape) if state is not None else parameter.numel()


def _is_base_weight(name: str) -> bool:
    # PEFT keeps the frozen original beside a fully trained copy; the copy is the one that is counted.
    return "lora_" not in name and ".original_module." not in name


def parts_table(model: nn.Module, family: Family, parts: PartsSettings, learning_rate: float) -> list[PartRow]:
    """Count what `model` (without the PEFT shell) holds, part by part."""
    precisions = count_precisions(model, family)
    rows = []
    for part in filter(family.roots, PART_NAMES):
        named = [(n, p) for n, p in model.named_parameters() if owner_of(n, family) == part]
        trainable = sum(p.numel() for _, p in named if p.requires_grad)
        asked = parts.of(part)
        rows.append(
            PartRow(
                part=part,
                parameters=sum(parameter_count(p) for n, p in named if _is_base_weight(n)),
                trainable=trainable,
                precision=asked.precision,
                training=asked.training,
                modules_4bit=sum(precisions[part][kind] for kind in FOUR_BITS),
                lr=(asked.learning_rate or learning_rate) if trainable else None,
            )
        )
    return rows


def refuse_absent_parts(family: Family, model_type: str, parts: PartsSettings) -> None:
    """Refuse settings of a part that the architecture does not have.

    Raises:
        ConfigError: naming the part, and what to write for it.
    """
    for part in PART_NAMES:
        asked = parts.of(part)
        if family.roots(part):
            continue
        if asked.learning_rate is not None:
            raise ConfigError(
                f"{part}.learning_rate is {asked.learning_rate}, but model type {model_type!r} has no {part}. Set "
                "it to null."
            )
        if asked.training == "frozen" and asked.precision in DTYPES:
            continue
        setting = f"training is {asked.training}" if asked.training != "frozen" else f"precision is {asked.precision}"
        raise ConfigError(
            f"{part}.{setting}, but model type {model_type!r} has no {part}. Set {part} to "
            "{precision: bf16, training: frozen}."
        )


def trainable_percent(rows: Sequence[PartRow]) -> float:
    """Share of the trainable parameters in all of them, in percent."""
    total = sum(row.parameters for row in rows) + sum(row.trainable for row in rows if row.training == "lora")
    return 100.0 * sum(row.trainable for row in rows) / total


def format_table(rows: Sequence[PartRow]) -> str:
    """The table as aligned text, with the trainable share under it."""
    header = ("part", "parameters", "precision", "4-bit layers", "training", "trainable", "learning rate")
    body = [
        (r.part, f"{r.parameters:,}", r.precision, str(r.modules_4bit), r.training, f"{r.trainable:,}", _rate(r.lr))
        for r in rows
    ]
    widths = [max(len(line[i]) for line in (header, *body)) for i in range(len(header))]
    lines = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in (header, *body)
    ]
    return "\n".join([*lines, f"trainable: {trainable_percent(rows):.3f} % of the parameters"])


def _rate(lr: float | None) -> str:
    return "-" if lr is None else f"{lr:.3g}"
