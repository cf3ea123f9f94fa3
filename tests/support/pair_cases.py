"""Pairs of answers about pictures, and preference modules over tiny checkpoints without a trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from tests.support import family_cases as cases
from vlm_lit.data.answers.corrupted import CorruptedAnswers, Corruption
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.over_length import OverLength, OverLengthPolicy
from vlm_lit.data.rows.pairs import PairBatch, PairCollator
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.objectives.preference_losses import PreferenceLossSettings
from vlm_lit.schema import IMAGE, Preference, StepBatch, Turn
from vlm_lit.training.preference import PreferenceModule

BETA = 0.4
LOSSES: Final = [
    PreferenceLossSettings(name="sigmoid", weight=0.8, beta=BETA),
    PreferenceLossSettings(name="ipo", weight=0.2, beta=BETA),
    PreferenceLossSettings(name="sft", weight=0.3),
]
MDPO: Final = [
    PreferenceLossSettings(name="sigmoid", beta=BETA),
    PreferenceLossSettings(name="image_sigmoid", weight=0.7, beta=BETA),
    PreferenceLossSettings(name="anchor", weight=0.4, beta=BETA),
]
QUESTIONS: Final = ("what is it?", "what is it, and where is it?", "and how many are there?")
ANSWERS: Final = (("red", "no, blue and green"), ("it is yellow there", "no"), ("two", "two tools"))


def preferences(pictures: int = 2) -> list[Preference]:
    """Three pairs about each of some pictures."""
    made = []
    for seed in range(pictures):
        (first, *_) = cases.about_one_picture(1, seed)
        for question, answers in zip(QUESTIONS, ANSWERS, strict=True):
            name = f"{seed} {question}"
            asked = Turn(role="user", content=(IMAGE, question))
            sides = [
                replace(first, id=name, turns=(asked, Turn(role="assistant", content=(said,)))) for said in answers
            ]
            made.append(Preference(id=name, images=first.images, chosen=sides[0], rejected=sides[1]))
    return made


def module(
    folder: Path,
    *,
    moved: bool = True,
    parts: PartsSettings | None = None,
    adapter: Path | None = None,
    lora_dropout: float = 0.0,
    losses: list[PreferenceLossSettings] = LOSSES,
    **settings: Any,
) -> PreferenceModule:
    """The adapted model in float32, LoRA and the projector in full, its trained weights moved off their start."""
    fp32 = PartSettings(precision="fp32", training="lora")
    made = PreferenceModule(
        str(folder),
        losses=losses,
        parts=parts or cases.parts(language_model=fp32),
        quantization=QuantizationSettings(compute_dtype="fp32"),
        lora=LoraSettings(dropout=lora_dropout, targets=["attention", "mlp"]),
        activation_checkpointing=False,
        adapter=None if adapter is None else str(adapter),
        **settings,
    )
    made.configure_model()
    if moved:
        move(made)
    return made


def move(made: PreferenceModule, seed: int = 5) -> None:
    """Change every trained weight, so that all of it shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def step(
    folder: Path,
    pairs: Sequence[Preference],
    *,
    rows: int = 8,
    packing: bool = True,
    corrupt: Corruption | None = None,
    micro_tokens: int | None = None,
    max_length: int | None = None,
    over_length: OverLength = "error",
) -> StepBatch[PairBatch]:
    """A step batch of pairs, micro-batches of so many rows."""
    encoder = cases.encoder(folder)
    policy = OverLengthPolicy(encoder, max_length, over_length)
    steps = StepCollator(encoder, policy, rows, packing=packing, micro_tokens=micro_tokens)
    corrupted = None if corrupt is None else CorruptedAnswers(corrupt, pairs, seed=3)
    return PairCollator(steps, corrupted=corrupted).collate(pairs)
