"""Shared cases of the family checks: conversations, the adapted module, the losses of single rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tests.support import tiny_models
from tests.support.tiny_families.catalogue import TINY, TinyFamily
from vlm_lit.data.checkpoint.processors import IMAGE_BACKEND, ImageBackend, load_processor
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.models.families import LayeredPart
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.schema import (
    IGNORE_INDEX,
    IMAGE,
    Conversation,
    EvaluationBatch,
    ImageRef,
    Part,
    PromptBatch,
    TokenBatch,
    Turn,
)
from vlm_lit.training.supervised import SupervisedModule

SIZES = ((40, 32), (90, 44), (33, 70))
WORDS = ("red", "blue and green", "two tools", "no", "it is yellow")
FP32 = PartSettings(precision="fp32")


@lru_cache(maxsize=4)
def encoder(folder: Path, image_backend: ImageBackend = IMAGE_BACKEND) -> ConversationEncoder:
    """The encoder of a saved checkpoint."""
    return encoder_of(load_processor(str(folder), image_backend=image_backend))


def conversation(images: int, turns: int, seed: int = 0, *, said: Sequence[str] = WORDS) -> Conversation:
    """A conversation of `turns` questions with answers, its images spread over the first questions."""
    pictures = [tiny_models.picture(seed * 7 + k, SIZES[(seed + k) % len(SIZES)]) for k in range(images)]
    made: list[Turn] = []
    for k in range(turns):
        slots: tuple[Part, ...] = tuple(IMAGE for i in range(images) if min(i, turns - 1) == k)
        question = f"what is on picture {k}?" + " and where" * ((seed + k) % 3)
        made += [
            Turn(role="user", content=(*slots, question)),
            Turn(role="assistant", content=(said[(seed + k) % len(said)],)),
        ]
    name = f"{images} images, {turns} turns, {seed}"
    return Conversation(id=name, turns=tuple(made), images=tuple(ImageRef(pixels=p) for p in pictures))


def about_one_picture(images: int, seed: int = 0, questions: int = 4) -> list[Conversation]:
    """Several conversations, of one turn and of two, about the same picture or pictures."""
    first = conversation(images, 1, seed)
    files = tuple(ImageRef(data=_png(ref.pixels)) for ref in first.images if ref.pixels is not None)
    made = []
    for k in range(questions):
        turns = conversation(images, 1 + k % 2, seed + k).turns
        opening = Turn(role="user", content=(*(IMAGE,) * images, turns[0].text))
        rest = tuple(Turn(role=turn.role, content=(turn.text,)) for turn in turns[1:])
        made.append(replace(first, id=f"{first.id}, question {k}", turns=(opening, *rest), images=files))
    return made


def _png(pixels: Image.Image) -> bytes:
    file = BytesIO()
    pixels.save(file, "PNG")
    return file.getvalue()


def shapes(tiny: TinyFamily) -> list[tuple[int, int]]:
    """The (images, turns) that the family takes."""
    return [(images, turns) for images in tiny.images for turns in ((1, 2, 3) if tiny.turns else (1,))]


def encode(made: ConversationEncoder, conversations: Sequence[Conversation], *, asked: bool = False) -> TokenBatch:
    """A training batch, or a batch of prompts."""
    pictures: list[list[Image.Image]] = [load_images(c) for c in conversations]
    return made.encode(conversations, pictures, side="left" if asked else "right", for_generation=asked)


def prompts(made: ConversationEncoder, asked: Sequence[Conversation], *, packing: bool) -> list[PromptBatch]:
    """Batches of prompts, those about the same images in one row or each in its own."""
    step_batch = PromptCollator(made, OverLengthPolicy(made, None, "error"), packing=packing)(asked)
    assert isinstance(step_batch, EvaluationBatch)
    return step_batch.batches


@torch.no_grad()
def log_likelihood(made: SupervisedModule, encoder: ConversationEncoder, talk: Conversation, answer: str) -> Tensor:
    """Of `answer` and its end of turn, in place of the conversation's last turn, from the logits of its own row."""
    row = encode(encoder, [replace(talk, turns=(*talk.turns[:-1], Turn(role="assistant", content=(answer,))))])
    said = len(runs(row, 0)[-1])
    supervised = (row.labels[0] != IGNORE_INDEX).nonzero()[-said:, 0]
    log_probs: Tensor = made.base(**row.inputs).logits[0, supervised - 1].float().log_softmax(-1)
    return log_probs.gather(1, row.labels[0, supervised, None]).sum()


def runs(batch: TokenBatch, row: int) -> list[list[int]]:
    """The unbroken runs of supervised tokens in a row."""
    found: list[list[int]] = []
    previous = IGNORE_INDEX
    for label in batch.labels[row].tolist():
        if label != IGNORE_INDEX and previous == IGNORE_INDEX:
            found.append([])
        if label != IGNORE_INDEX:
            found[-1].append(label)
        previous = label
    return found


def parts(**changed: PartSettings) -> PartsSettings:
    """NF4 and LoRA on the language model, the projector in full, everything else float32 and frozen."""
    usual = {
        "vision_tower": FP32,
        "projector": PartSettings(precision="fp32", training="full"),
        "language_model": PartSettings(precision="nf4", training="lora"),
        "head": FP32,
    }
    return PartsSettings(**{**usual, **changed})


def module(
    folder: Path, settings: PartsSettings | None = None, *, checkpointing: bool | list[LayeredPart] = False
) -> SupervisedModule:
    """The adapted model, every trained weight moved off its start so that all of it shows."""
    made = SupervisedModule(
        model_id=str(folder),
        parts=settings or parts(),
        quantization=QuantizationSettings(compute_dtype="fp32"),
        lora=LoraSettings(dropout=0.0, targets=["attention", "mlp"]),
        activation_checkpointing=checkpointing,
    )
    made.configure_model()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in made.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return made


def adapted(folder: Path) -> torch.nn.Module:
    """The adapted model of a saved checkpoint, in evaluation mode."""
    model: torch.nn.Module | None = module(folder).eval().model
    assert model is not None
    return model


def gradients(made: SupervisedModule, batch: TokenBatch) -> dict[str, Tensor | None]:
    """Every parameter's gradient of the batch's mean loss."""
    made.zero_grad(set_to_none=True)
    (made.loss(batch) / batch.supervised_tokens).backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in made.base.named_parameters()}


@torch.no_grad()
def logits(model: torch.nn.Module, batch: TokenBatch) -> Tensor:
    """The model's own logits where something is supervised."""
    found: Tensor = model.eval()(**batch.inputs).logits
    return found[:, :-1][batch.labels[:, 1:] != IGNORE_INDEX].float()


__all__ = ["TINY", "TinyFamily"]
