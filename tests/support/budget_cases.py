"""Modules for the budget tests: a tiny LLaVA loaded as a run would, and the same without weights."""

from __future__ import annotations

from pathlib import Path

import lightning
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.family_cases import FP32
from vlm_lit.models.loading import load_config
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.quantization import Precision, QuantizationSettings
from vlm_lit.models.shapes import fake_mode
from vlm_lit.preflight.budget.hollow_module import hollow_module
from vlm_lit.schema import IGNORE_INDEX, TokenBatch
from vlm_lit.training.supervised import SupervisedModule

SUPERVISED = 10
BF16 = PartSettings(precision="bf16")


def parts(precision: Precision, *, other: PartSettings = FP32, full: bool = False) -> PartsSettings:
    """The language model in `precision`, adapted or trained in full; the projector in full."""
    return PartsSettings(
        vision_tower=other,
        projector=PartSettings(precision=other.precision, training="full"),
        language_model=PartSettings(precision=precision, training="full" if full else "lora"),
        head=PartSettings(precision=other.precision, training="full" if full else "frozen"),
    )


def trainer(precision: str = "32-true") -> lightning.Trainer:
    """A trainer that writes nothing."""
    return lightning.Trainer(
        accelerator="cpu", devices=1, precision=precision, logger=False,  # type: ignore[arg-type]
        enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip


def module(
    folder: Path, asked: PartsSettings, *, checkpointing: bool = True, precision: str = "32-true", double: bool = True
) -> SupervisedModule:
    """A module whose model is not loaded, its trainer attached."""
    made = SupervisedModule(
        str(folder),
        parts=asked,
        quantization=QuantizationSettings(
            double_quant=double, compute_dtype="fp32" if precision == "32-true" else "bf16"
        ),
        lora=LoraSettings(dropout=0.0),
        activation_checkpointing=checkpointing,
    )
    made.trainer = trainer(precision)
    return made


def loaded(made: SupervisedModule) -> SupervisedModule:
    """The model loaded, in training mode, gradients there as in a second micro-batch."""
    made.configure_model()
    made.train()
    for parameter in made.trainable_parameters():
        parameter.grad = torch.zeros_like(parameter)
    return made


def hollowed(made: SupervisedModule, folder: Path, mode: FakeTensorMode | None = None) -> SupervisedModule:
    """The same without weights."""
    return hollow_module(made, load_config(str(folder)), made.parts, mode or fake_mode())


def batch(rows: int, length: int, image_token: int) -> TokenBatch:
    """Rows of `length` tokens with a picture each, the last `SUPERVISED` with labels, and a mask of who sees whom."""
    ids = torch.randint(5, 300, (rows, length))
    ids[:, 1:5] = image_token
    labels = torch.full((rows, length), IGNORE_INDEX)
    labels[:, -SUPERVISED:] = 7
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    inputs = {
        "input_ids": ids,
        "pixel_values": torch.rand(rows, 3, 28, 28),
        "attention_mask": seen.expand(rows, 1, length, length).clone(),
        "position_ids": torch.arange(length).expand(rows, length).clone(),
    }
    return TokenBatch(inputs=inputs, labels=labels, ids=[])
