"""Budget of a run: all that is known of it, in one object."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning

from vlm_lit.data.token_rows import TokenRows
from vlm_lit.models.families import family_of
from vlm_lit.models.loading import load_config
from vlm_lit.preflight.budget.estimate import Estimator, ImageShape, Needs, Refused
from vlm_lit.preflight.budget.recipes import recipes
from vlm_lit.preflight.budget.rows import LongestRow, longest_row
from vlm_lit.training.answered import AnsweredModule


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A run's budget.

    Args:
        model_id, model_type: the checkpoint and its architecture.
        precision: the trainer's.
        checkpointing: whether the run recomputes activations.
        row: what every row is taken to be.
        picture: what a picture becomes.
        uncounted: what of a picture decides how much tower and projector take, where it does: they are not counted.
        cross_attention: whether the language model reaches images by layers of their own, which run on images alone.
        recipes: what each way to train needs, or why it cannot be had.
    """

    model_id: str
    model_type: str
    precision: str
    checkpointing: bool
    row: LongestRow
    picture: ImageShape
    uncounted: str | None
    cross_attention: bool
    recipes: list[Needs | Refused]

    @property
    def needs(self) -> list[Needs]:
        """The recipes that can be had."""
        return [recipe for recipe in self.recipes if isinstance(recipe, Needs)]

    @property
    def refused(self) -> list[Refused]:
        """The recipes that cannot."""
        return [recipe for recipe in self.recipes if isinstance(recipe, Refused)]


@contextmanager
def _without_collection() -> Iterator[None]:
    """No search for garbage among the millions of small objects of a pass; tensors are freed without it."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def budget(
    module: AnsweredModule,
    data: TokenRows[Any],
    trainer: lightning.Trainer,
    *,
    length: int | None,
    supervised: int | None,
    images: int,
    say: Callable[[str], None],
) -> Budget:
    """The budget of a run whose model is not loaded and whose data are not open.

    Args:
        module, data, trainer: the run's.
        length, supervised, images: what a row is; None takes it from the data.
        say: takes a line of progress.

    Raises:
        VlmLitError: the checkpoint's config cannot be used, or the data are here and cannot be.
    """
    module.trainer = trainer
    config = load_config(module.model_id, module.revision)
    estimator = Estimator(module, config, trainer)
    picture = estimator.picture() if images else ImageShape(tokens=None, cached=None)
    row = longest_row(data, length=length, supervised=supervised, images=images, image_tokens=picture.tokens)
    found = []
    family = family_of(config.model_type)
    for recipe in recipes(module.parts, family):
        say(f"Estimating {recipe.name} ...")
        with _without_collection():
            found.append(estimator.needs(recipe, row))
    return Budget(
        model_id=module.model_id,
        model_type=config.model_type,
        precision=str(trainer.precision),
        checkpointing=bool(module.recomputed),
        row=row,
        picture=picture,
        uncounted=estimator.asked if images else None,
        cross_attention=family.projected == "states",
        recipes=found,
    )
