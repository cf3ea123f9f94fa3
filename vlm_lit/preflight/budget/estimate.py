"""Estimate of what each recipe needs: memory by purpose and micro-batch, and disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin

from vlm_lit.errors import ConfigError
from vlm_lit.models.families import asked_of_pictures
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.shapes import fake_mode, hollow, shaped_base
from vlm_lit.models.stored_bytes import holdings
from vlm_lit.models.vision_features import check_cacheable, tower_features
from vlm_lit.objectives.cross_entropy import CHUNK
from vlm_lit.preflight.budget.hollow_module import attention_of, hollow_module, image_inputs, sizes
from vlm_lit.preflight.budget.ledger import Bytes, telling_rows
from vlm_lit.preflight.budget.needs import Needs, Refused
from vlm_lit.preflight.budget.pictures import NoPictures, Pictures, pictures_of
from vlm_lit.preflight.budget.rank_memory import ALONE, RankPlan
from vlm_lit.preflight.budget.recipes import Recipe
from vlm_lit.preflight.budget.rows import LongestRow
from vlm_lit.preflight.budget.step import (
    Autocast,
    BackboneBytes,
    backbone_bytes,
    head_bytes,
    on_shapes,
    optimizer_bytes,
    plain_head_bytes,
    reference_bytes,
    set_checkpointing,
)
from vlm_lit.training.answered import AnsweredModule
from vlm_lit.training.referenced import ReferencedModule


@dataclass(frozen=True, kw_only=True)
class ImageShape:
    """What a picture becomes; None where that is not known.

    Args:
        tokens: how many tokens.
        cached: bytes of its cached features.
        assumed: which picture it is, in words, where pictures differ.
    """

    tokens: int | None
    cached: int | None
    assumed: str | None = None


def trained_bytes(module: AnsweredModule) -> int:
    """Bytes of the weights that are trained."""
    return sum(p.numel() * p.element_size() for p in module.trainable_parameters())


@dataclass
class Estimator:
    """Estimates with one module, config and trainer, on the trainer's precision.

    Args:
        module: the run's, its model not loaded, its trainer attached.
        config: the checkpoint's.
        trainer: says whether there is autocast.
        plan: what each of several GPUs holds.
        pictures: those of a row where they vary in tiles or tokens, see `look_for`; None where that was not asked.
    """

    module: AnsweredModule
    config: PretrainedConfig
    trainer: lightning.Trainer
    plan: RankPlan = ALONE
    mode: FakeTensorMode = field(default_factory=fake_mode)
    pictures: Pictures | NoPictures | None = None

    @property
    def autocast(self) -> Autocast:
        """The context that a training step runs in."""
        found: Autocast = self.trainer.precision_plugin.train_step_context
        return found

    @property
    def asked(self) -> str | None:
        """What of a picture decides how much it takes; the config alone does not say how large it is then."""
        return asked_of_pictures(self.config.model_type, self.config.vision_config.model_type)

    @property
    def uncounted(self) -> str | None:
        """Why tower and projector are not counted; None where they are."""
        if self.asked is None or isinstance(self.pictures, Pictures):
            return None
        reason = "none was asked for" if self.pictures is None else self.pictures.reason
        return f"depends on {self.asked}, and {reason}"

    def look_for(self, processor: Callable[[], ProcessorMixin], images: int, length: int) -> None:
        """Find the pictures of a row of `length` tokens, where these vary."""
        if self.asked is not None and images and self.pictures is None:
            self.pictures = pictures_of(processor, images, length)

    def picture(self) -> ImageShape:
        """Show the vision tower one picture: of the size that the config names, or of a row's."""
        if self.asked is not None and not isinstance(self.pictures, Pictures):
            return ImageShape(tokens=None, cached=None)
        tower = PartsSettings(vision_tower=self.module.parts.vision_tower, language_model=PartSettings())
        base, family = shaped_base(self.config, parts=tower, quantization=self.module.quantization)
        hollow(base, self.mode)
        model = family.backbone_of(base)
        known = self.pictures if isinstance(self.pictures, Pictures) else None
        with on_shapes(self.mode, self.autocast), torch.no_grad():
            inputs = image_inputs(base, 1) if known is None else known.of(1)
            features = tower_features(base, family, inputs)
            tokens = _projected(base, model.get_image_features(**inputs)) if known is None else known.tokens
        size: int | None = sum(f.numel() * f.element_size() for f in features) // (1 if known is None else known.images)
        try:
            check_cacheable(family, self.config.model_type, self.module.parts)
        except ConfigError:
            size = None
        return ImageShape(tokens=tokens, cached=size, assumed=None if known is None else known.words)

    def needs(self, recipe: Recipe, row: LongestRow, least: int = 1) -> Needs | Refused:
        """The needs of one recipe; a micro-batch has so many rows at least."""
        try:
            self.plan.check(recipe.parts)
            module = hollow_module(self.module, self.config, recipe.parts, self.mode)
            optimizer = optimizer_bytes(module)
        except ConfigError as error:
            return Refused(recipe=recipe, reason=str(error))
        assert module.family is not None
        if isinstance(self.pictures, Pictures) and attention_of(module.base) == "sdpa":
            self.pictures.join_windows(module.base)
        shown = self.pictures.numbers() if isinstance(self.pictures, Pictures) else ()
        rows = telling_rows([*sizes(module, self.config), *shown, row.length])
        return Needs(
            recipe=recipe,
            held=holdings(module.base, module.family),
            attention=attention_of(module.base),
            optimizer=optimizer,
            ranks=self.plan.memory(module.base, module.family),
            backbone={on: self._backbone(module, row, rows, checkpointing=on) for on in (True, False)},
            head=self._head(module, row),
            plain_head=lambda n: plain_head_bytes(module, self.mode, self.autocast, rows=n, length=row.length),
            least=least,
            reference=self._reference(module, row, rows),
            copies=trained_bytes(module) if isinstance(module, ReferencedModule) and module.adapter is not None else 0,
        )

    def _images(self, row: LongestRow) -> Pictures | int:
        if self.asked is None or not row.images:
            return row.images
        return self.pictures if isinstance(self.pictures, Pictures) else 0

    def _reference(self, module: AnsweredModule, row: LongestRow, rows: int) -> Callable[[int], int] | None:
        if not isinstance(module, ReferencedModule) or not module.compares:
            return None
        images = self._images(row)
        found = reference_bytes(module, self.mode, self.autocast, rows=rows, length=row.length, images=images)
        head = self._head(module, row)  # with its backward pass: a little more than the reference's
        return lambda n: max(found.peak.at(n), found.kept.at(n) + head(n))

    def _backbone(self, module: AnsweredModule, row: LongestRow, rows: int, *, checkpointing: bool) -> BackboneBytes:
        set_checkpointing(module, checkpointing)
        images = self._images(row)
        return backbone_bytes(module, self.mode, self.autocast, rows=rows, length=row.length, images=images)

    def _head(self, module: AnsweredModule, row: LongestRow) -> Callable[[int], int]:
        def measured(rows: int) -> int:
            if rows not in known:
                known[rows] = head_bytes(
                    module, self.mode, self.autocast, rows=rows, length=row.length, supervised=row.supervised
                )
            return known[rows]

        known: dict[int, int] = {}
        return lambda rows: _chunked(measured, rows, few=-(-2 * CHUNK // row.supervised))


def _projected(base: PreTrainedModel, features: Any) -> int:  # noqa: ANN401 - each architecture's own
    """How many tokens an image's features are, in the language model's width."""
    found = features.pooler_output
    numbers = sum(part.numel() for part in (found if isinstance(found, list | tuple) else [found]))
    return int(numbers) // int(base.config.get_text_config().hidden_size)


def _chunked(measured: Callable[[int], int], rows: int, *, few: int) -> int:
    """What a head takes: measured for a few chunks, and beyond that on a line, since a chunk's logits stay as many."""
    if rows <= 2 * few:
        return measured(rows)
    one, two = measured(few), measured(2 * few)
    per_row = -(-(two - one) // few)
    return Bytes(fixed=two - 2 * few * per_row, per_row=per_row).at(rows)
