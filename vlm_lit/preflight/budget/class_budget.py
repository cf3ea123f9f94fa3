"""Budget of a classifier's run: what each way to train needs, at the shape of its checkpoint and its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightning
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PretrainedConfig

from vlm_lit.data.answers.vocabulary import AnswerVocabulary
from vlm_lit.data.classifier_datamodule import ClassifierDataModule
from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.models.answer_head import name_answers
from vlm_lit.models.families import check_task, family_of
from vlm_lit.models.loading import load_config, with_dropout
from vlm_lit.models.parts import PartRow
from vlm_lit.models.shapes import fake_mode
from vlm_lit.models.stored_bytes import holdings
from vlm_lit.preflight.budget.class_step import QuestionRow, pass_bytes
from vlm_lit.preflight.budget.hollow_module import attention_of, hollow_module, sizes
from vlm_lit.preflight.budget.ledger import telling_rows
from vlm_lit.preflight.budget.needs import Refused, StepNeeds
from vlm_lit.preflight.budget.rank_memory import ALONE, RankPlan
from vlm_lit.preflight.budget.recipes import Recipe, class_recipes
from vlm_lit.preflight.budget.rows import is_here
from vlm_lit.preflight.budget.run_budget import RunBudget, without_collection
from vlm_lit.preflight.budget.step import BackboneBytes, optimizer_bytes, set_checkpointing
from vlm_lit.training.classifier import ClassifierModule


@dataclass(frozen=True, kw_only=True)
class ClassNeeds(StepNeeds):
    """What one recipe of a classifier needs; `parts` says what each part holds and trains."""

    parts: list[PartRow]


@dataclass(frozen=True, kw_only=True)
class ClassBudget(RunBudget):
    """A classifier's budget; `row` is what every row is taken to be."""

    row: QuestionRow
    recipes: Sequence[ClassNeeds | Refused]

    @property
    def needs(self) -> Sequence[ClassNeeds]:
        """The recipes that can be had."""
        return [recipe for recipe in self.recipes if isinstance(recipe, ClassNeeds)]


def class_budget(
    module: ClassifierModule,
    data: ClassifierDataModule,
    trainer: lightning.Trainer,
    *,
    answers: int | None,
    words: int | None,
    say: Callable[[str], None],
    plan: RankPlan = ALONE,
) -> ClassBudget:
    """The budget of a run whose model is not loaded and whose data are not open.

    Args:
        module, data, trainer: the run's.
        answers: how many there are to choose from; None takes them from the vocabulary, or from the checkpoint.
        words: tokens of a question; None takes `data.most_words`.
        say: takes a line of progress.
        plan: how many GPUs the run has, and what each holds.

    Raises:
        VlmLitError: the checkpoint's config cannot be used, or nothing says how many answers there are.
    """
    module.trainer = trainer
    config = load_config(module.model_id, module.revision)
    check_task(config.model_type, "classify")
    for name, value in with_dropout(config, family_of(config.model_type), module.dropout).items():
        setattr(config, name, value)
    known, source = _answers(data, config, answers)
    name_answers(config, known)
    row = _row(data, config, words=words, answers=len(known), source=source)
    mode, found = fake_mode(), []
    for recipe in class_recipes(module.parts):
        say(f"Estimating {recipe.name} ...")
        with without_collection():
            found.append(_needs(module, config, recipe, row, mode, plan))
    return ClassBudget(
        model_id=module.model_id,
        model_type=config.model_type,
        precision=str(trainer.precision),
        checkpointing=bool(module.recomputed),
        row=row,
        recipes=found,
        plan=plan,
    )


def _answers(data: ClassifierDataModule, config: PretrainedConfig, count: int | None) -> tuple[list[str], str]:
    """The answers, and where they come from."""
    asked = data.vocabulary_settings
    if count is not None:
        return [f"answer {place}" for place in range(count)], "--answers"
    if asked.file is not None:
        return list(data.vocabulary.answers), asked.file
    if all(is_here(data, split) for split in ("train", "val")[: 2 if asked.source == "train_and_val" else 1]):
        return list(data.vocabulary.answers), "the training data"
    try:
        return list(AnswerVocabulary.of_labels(config.id2label, "config.json").answers), "the checkpoint's id2label"
    except VlmLitError as error:
        raise ConfigError(
            "How many answers are there to choose from? The data are not here, and the checkpoint names none. Add "
            "--answers, or set data.init_args.vocabulary.file."
        ) from error


def _row(
    data: ClassifierDataModule, config: PretrainedConfig, *, words: int | None, answers: int, source: str
) -> QuestionRow:
    """The largest row: a question of the most words about a picture of the largest shape that its processor makes."""
    tokens = data.most_words if words is None else words
    positions = int(config.max_position_embeddings)
    if tokens > positions:
        raise ConfigError(
            f"A question of {tokens} tokens does not fit: the checkpoint has positions for {positions}. Set "
            "data.most_words, or --length, to that at most."
        )
    patch, short = int(config.patch_size), int(config.image_size)
    size = data.image_settings.image_processor.get("size")
    if isinstance(size, dict) and "shortest_edge" in size:
        short = int(size["shortest_edge"])
    # ViLT's processor lets no picture be longer than this: 608 pixels where the shorter side has 384.
    wide, high = (side // patch for side in (int(1333 / 800 * short), short))
    return QuestionRow(
        words=tokens,
        height=high * patch,
        width=wide * patch,
        patches=high * wide,
        answers=answers,
        source=source,
    )


def _needs(
    module: ClassifierModule,
    config: PretrainedConfig,
    recipe: Recipe,
    row: QuestionRow,
    mode: FakeTensorMode,
    plan: RankPlan,
) -> ClassNeeds | Refused:
    try:
        plan.check(recipe.parts)
        made = hollow_module(module, config, recipe.parts, mode)
        optimizer = optimizer_bytes(made)
    except ConfigError as error:
        return Refused(recipe=recipe, reason=str(error))
    assert made.family is not None
    rows = telling_rows([*sizes(made, config), row.words, row.height, row.width, row.patches, row.answers])
    return ClassNeeds(
        recipe=recipe,
        held=holdings(made.base, made.family),
        attention=attention_of(made.base),
        optimizer=optimizer,
        ranks=plan.memory(made.base, made.family),
        backbone={on: _pass(made, row, mode, rows, checkpointing=on) for on in (True, False)},
        parts=made.parts_table(),
    )


def _pass(
    module: ClassifierModule, row: QuestionRow, mode: FakeTensorMode, rows: int, *, checkpointing: bool
) -> BackboneBytes:
    set_checkpointing(module, checkpointing)
    autocast = module.trainer.precision_plugin.train_step_context
    return pass_bytes(module, mode, autocast, rows=rows, row=row)
