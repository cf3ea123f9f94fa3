"""Budget of a run: all that is known of it, in one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning

from vlm_lit.data.token_rows import TokenRows
from vlm_lit.models.families import family_of
from vlm_lit.models.loading import load_config
from vlm_lit.preflight.budget.estimate import Estimator, ImageShape
from vlm_lit.preflight.budget.needs import Needs, Refused
from vlm_lit.preflight.budget.pair_rows import PairRows, pair_rows
from vlm_lit.preflight.budget.rank_memory import ALONE, RankPlan
from vlm_lit.preflight.budget.recipes import recipes
from vlm_lit.preflight.budget.rows import LongestRow, longest_row
from vlm_lit.preflight.budget.run_budget import RunBudget, without_collection
from vlm_lit.training.answered import AnsweredModule


@dataclass(frozen=True, kw_only=True)
class Budget(RunBudget):
    """A run's budget.

    Args:
        row: what every row is taken to be.
        picture: what a picture becomes.
        uncounted: why tower and projector are not counted, where they are not.
        cross_attention: whether the language model reaches images by layers of their own, which run on images alone.
        pairs: how pairs are laid out in rows; None where the run has none.
    """

    row: LongestRow
    picture: ImageShape
    uncounted: str | None
    cross_attention: bool
    pairs: PairRows | None
    recipes: Sequence[Needs | Refused]

    @property
    def needs(self) -> Sequence[Needs]:
        """The recipes that can be had."""
        return [recipe for recipe in self.recipes if isinstance(recipe, Needs)]


def budget(
    module: AnsweredModule,
    data: TokenRows[Any],
    trainer: lightning.Trainer,
    *,
    length: int | None,
    supervised: int | None,
    images: int,
    say: Callable[[str], None],
    plan: RankPlan = ALONE,
) -> Budget:
    """The budget of a run whose model is not loaded and whose data are not open.

    Args:
        module, data, trainer: the run's.
        length, supervised, images: what a row is; None takes it from the data.
        say: takes a line of progress.
        plan: how many GPUs the run has, and what each holds.

    Raises:
        VlmLitError: the checkpoint's config cannot be used, or the data are here and cannot be.
    """
    module.trainer = trainer
    config = load_config(module.model_id, module.revision)
    estimator = Estimator(module, config, trainer, plan)
    pairs = pair_rows(module, data)
    # Data whose trainer is not there do not know what the module allows.
    data.packing = data.packing and module.shortcuts().unpackable is None
    picture = ImageShape(tokens=None, cached=None)

    def image_tokens(length: int) -> int | None:
        nonlocal picture
        if images and picture.tokens is None:
            estimator.look_for(lambda: data.processor, images, length)
            picture = estimator.picture()
        return picture.tokens

    row = longest_row(data, length=length, supervised=supervised, images=images, image_tokens=image_tokens)
    image_tokens(row.length)  # which data that are here did not ask for
    found = []
    family = family_of(config.model_type)
    for recipe in recipes(module.parts, family):
        say(f"Estimating {recipe.name} ...")
        with without_collection():
            found.append(estimator.needs(recipe, row, 1 if pairs is None else pairs.rows))
    return Budget(
        model_id=module.model_id,
        model_type=config.model_type,
        precision=str(trainer.precision),
        checkpointing=bool(module.recomputed),
        row=row,
        picture=picture,
        uncounted=estimator.uncounted if images else None,
        cross_attention=family.projected == "states",
        pairs=pairs,
        recipes=found,
        plan=plan,
    )
