"""Memory of one micro-batch of a classifier beside the weights, from a training step of its module on shapes alone.

B = rows, L = tokens of a question, N = answers, H and W = height and width of a picture in pixels, D = hidden width,
P = patches of a picture.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vlm_lit.models.shapes import without_value_checks
from vlm_lit.preflight.budget.hollow_module import resident
from vlm_lit.preflight.budget.ledger import Ledger
from vlm_lit.preflight.budget.step import Autocast, BackboneBytes
from vlm_lit.schema import ClassBatch
from vlm_lit.training.classifier import ClassifierModule


@dataclass(frozen=True, kw_only=True)
class QuestionRow:
    """What every row of a micro-batch is taken to be.

    Args:
        words: tokens of the question.
        height, width: of the picture as the model gets it, in pixels.
        patches: of that picture.
        answers: how many there are to choose from.
        source: where the answers come from, in words.
    """

    words: int
    height: int
    width: int
    patches: int
    answers: int
    source: str


def pass_bytes(
    module: ClassifierModule, mode: FakeTensorMode, autocast: Autocast, *, rows: int, row: QuestionRow
) -> BackboneBytes:
    """Measure forward pass, loss and backward pass on `rows` questions.

    Args:
        module: without weights, see `hollow_module`; its embeddings are changed, see `OneSize`.
        mode: that of its tensors.
        autocast: the context of a training step.
        rows: how many questions.
        row: what each is.
    """
    for embeddings in module.base.modules():
        if hasattr(type(embeddings), "visual_embed"):  # PEFT keeps the original beside a copy that is trained
            embeddings.visual_embed = OneSize(embeddings)  # type: ignore[assignment]
    with ExitStack() as stack:
        for context in (without_value_checks(), mode, autocast()):
            stack.enter_context(context)
        ledger = stack.enter_context(Ledger(rows, resident(module)))
        words = {name: torch.empty(rows, row.words, dtype=torch.long) for name in _WORDS}
        pixels = {
            "pixel_values": torch.empty(rows, 3, row.height, row.width),
            "pixel_mask": torch.empty(rows, row.height, row.width, dtype=torch.long),
        }
        batch = ClassBatch(inputs={**words, **pixels}, ids=[], targets=torch.empty(rows, row.answers))
        loss = module.loss(batch)
        kept = ledger.now
        loss.backward()  # type: ignore[no-untyped-call]
    return BackboneBytes(kept=kept, peak=ledger.peak)


_WORDS = ("input_ids", "token_type_ids", "attention_mask")


class OneSize:
    """ViLT's embedding of pictures (`visual_embed` in transformers) where all of a batch are of one size.

    transformers' own asks the mask what each picture's size is and draws an order of its patches, which tensors without
    contents cannot tell. This gives the same in the order of the rows, and makes tensors of the same sizes.

    Args:
        embeddings: the model's.
    """

    def __init__(self, embeddings: nn.Module) -> None:
        self._embeddings: Any = embeddings

    def __call__(
        self, pixel_values: Tensor, pixel_mask: Tensor, max_image_length: int | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """The embedded patches [B, 1 + P, D], which of them are no padding [B, 1 + P], and no order of them."""
        own = self._embeddings
        patches = own.patch_embeddings(pixel_values)
        rows, width, high, wide = patches.shape
        mask = nn.functional.interpolate(pixel_mask[:, None].float(), size=(high, wide)).long().flatten(1)
        side = own.config.image_size // own.config.patch_size
        places = own.position_embeddings[:, 1:].transpose(1, 2).view(1, width, side, side).expand(rows, -1, -1, -1)
        places = nn.functional.interpolate(places, size=(high, wide), mode="bilinear", align_corners=True)
        patches, places = (tensor.flatten(2).transpose(1, 2) for tensor in (patches, places))
        owner = torch.arange(rows, device=mask.device)[:, None].expand(-1, high * wide).flatten()
        which = torch.arange(high * wide, device=mask.device).repeat(rows)
        order = torch.stack((owner, which), dim=1)
        patches = patches[order[:, 0], order[:, 1]].view(rows, -1, width)
        mask = mask[order[:, 0], order[:, 1]].view(rows, -1)
        places = places[order[:, 0], order[:, 1]].view(rows, -1, width)
        patches = torch.cat((own.cls_token.expand(rows, -1, -1), patches), dim=1)
        first = own.position_embeddings[:, 0, :][:, None, :].expand(rows, -1, -1)
        embedded = own.dropout(patches + torch.cat((first, places), dim=1))
        return embedded, torch.cat([torch.ones(rows, 1).to(mask), mask], dim=1), None
