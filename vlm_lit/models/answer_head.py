"""Head of a classifier for a given list of answers: rows carried over from the checkpoint by their text, or made anew.

N = answers, D = width of the head's last layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from vlm_lit.errors import ConfigError
from vlm_lit.models.families import Family, owner_of
from vlm_lit.models.loading import ReadCheckpoint, read_checkpoint, refuse_incomplete, with_precisions
from vlm_lit.models.loading_bar import without_load_report
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.quantization import QUANTIZED, QuantizationSettings, precision_of

_FEW: Final = 5  # answers and weights that a sentence names


@dataclass(frozen=True, kw_only=True)
class HeadReport:
    """What became of a checkpoint's head.

    Args:
        answers: the head's answers, in the order of its rows.
        carried: those whose row is the checkpoint's.
        drawn: those whose row was drawn from the seed.
        lower_kept: whether the layers below the rows are the checkpoint's.
        unused: names of weights in the checkpoint's files that a classifier has no place for.
    """

    answers: tuple[str, ...]
    carried: tuple[str, ...]
    drawn: tuple[str, ...]
    lower_kept: bool
    unused: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The sentences that a run prints."""
        count, below = f"{len(self.answers):,} answers", "the layers below its rows are the checkpoint's"
        if not self.lower_kept:
            said = f"Head for {count}: made anew from the seed, since the checkpoint has no head for answers that fits."
        elif not self.drawn:
            said = f"Head for {count}: every row is the checkpoint's, found by its text; {below}."
        elif not self.carried:
            said = (
                f"Head for {count}: every row is drawn from the seed, since the checkpoint has none of them; {below}."
            )
        else:
            said = (
                f"Head for {count}: {len(self.carried):,} rows carried over from the checkpoint by their text "
                f"({_first(self.carried)}), {len(self.drawn):,} drawn from the seed ({_first(self.drawn)}); {below}."
            )
        return said + (f" Not used of the checkpoint: {_first(self.unused)}." if self.unused else "")


def load_classifier(
    model_id: str,
    answers: Sequence[str],
    *,
    parts: PartsSettings,
    quantization: QuantizationSettings,
    seed: int,
    revision: str | None = None,
    attention: str | None = None,
    device: torch.device | None = None,
    dropout: float | None = None,
) -> tuple[PreTrainedModel, Family, HeadReport]:
    """Load a checkpoint that classifies, with a head for these answers and each part in its precision, and prove it.

    Args:
        model_id, parts, quantization, revision, attention, device, dropout: see `loading.read_checkpoint`.
        answers: the answers, in the order of the head's rows.
        seed: what rows and layers that the checkpoint lacks are drawn from.

    Raises:
        ConfigError: unknown family or checkpoint, one that generates text, one whose weights are incomplete; answers
            that no head can have, or a head with new rows that is not trained in full.
    """
    # What the files lack is drawn here and again below; the first draw is to leave no trace.
    others = [device] if device is not None and device.type != "cpu" else []
    with torch.random.fork_rng(devices=others), without_load_report():
        read = read_checkpoint(
            model_id, parts=parts, quantization=quantization, revision=revision, attention=attention, device=device,
            task="classify", dropout=dropout,
        )  # fmt: skip
    refuse_incomplete(read, model_id)
    report = fit_head(read, answers, seed=seed)
    if report.drawn and parts.head.training != "full":
        raise ConfigError(
            f"parts.head.training is {parts.head.training}, but {len(report.drawn):,} rows of the head are new: "
            f"{report.words} Random rows give random answers; set parts.head to {{precision: fp32, training: full}}."
        )
    return with_precisions(read, parts), read.family, report


def fit_head(read: ReadCheckpoint, answers: Sequence[str], *, seed: int) -> HeadReport:
    """Give a classifier a head for these answers, in place; a head that has them already is left as it is.

    Raises:
        ConfigError: the answers are none, or one is there twice; the checkpoint's own are not numbered by its rows; or
            the head is quantized and would have to change.
    """
    model, family = read.model, read.family
    own = _answers_of(model.config)
    there = not any(owner_of(name, family) == "head" for name in read.missing)
    if there and own == list(answers):
        return HeadReport(answers=tuple(own), carried=tuple(own), drawn=(), lower_kept=True, unused=read.unused)
    name_answers(model.config, answers)
    model.num_labels = len(answers)
    name, rows = _last_layer(model, family)
    if (precision := precision_of(rows)) in QUANTIZED:
        raise ConfigError(
            f"parts.head.precision is {precision}, but the checkpoint has no head for exactly these answers, and a "
            "quantized one cannot be changed. Set parts.head to {precision: fp32, training: full}."
        )
    places = {answer: row for row, answer in reversed(list(enumerate(own)))} if there else {}
    generator = torch.Generator().manual_seed(seed)
    if not there:
        _draw_lower(model, family, generator)
    with torch.device("meta"):  # where making a layer draws no random number
        made = nn.Linear(rows.in_features, len(answers), dtype=rows.weight.dtype)
    made = made.to_empty(device=rows.weight.device)
    with torch.no_grad():
        _draw(made, model.config.initializer_range, generator)
        for row, answer in enumerate(answers):
            if answer in places:
                made.weight[row] = rows.weight[places[answer]]
                made.bias[row] = rows.bias[places[answer]]
    model.set_submodule(name, made)
    return HeadReport(
        answers=tuple(answers),
        carried=tuple(answer for answer in answers if answer in places),
        drawn=tuple(answer for answer in answers if answer not in places),
        lower_kept=there,
        unused=read.unused,
    )


def name_answers(config: PretrainedConfig, answers: Sequence[str]) -> None:
    """Write the answers into a config, in place: their number is the number of rows of a head made from it.

    Raises:
        ConfigError: there are none, or one is there twice.
    """
    twice = next((answer for answer, count in Counter(answers).items() if count > 1), None)
    if twice is not None or not answers:
        wrong = "is empty" if twice is None else f"has {twice!r} twice"
        raise ConfigError(f"The list of answers {wrong}; each answer is one row of the head.")
    config.id2label = dict(enumerate(answers))
    config.label2id = {answer: row for row, answer in enumerate(answers)}


def _answers_of(config: PretrainedConfig) -> list[str]:
    """The checkpoint's answers, in the order of its head's rows.

    Raises:
        ConfigError: its config.json names rows that the head does not have.
    """
    rows = sorted(config.id2label)
    if rows != list(range(len(rows))):
        raise ConfigError(
            f"id2label in the checkpoint's config.json names {len(rows):,} rows from {rows[0]} to {rows[-1]}; rows are "
            "counted from 0, each named once. Number them so, in the order of the head's rows."
        )
    return [str(config.id2label[row]) for row in rows]


def _last_layer(model: nn.Module, family: Family) -> tuple[str, nn.Linear]:
    """Name and module of the head's last linear layer, whose rows [N, D] are the answers."""
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and owner_of(name, family) == "head"
    ]
    return found[-1]


def _draw_lower(model: PreTrainedModel, family: Family, generator: torch.Generator) -> None:
    with torch.no_grad():
        for name, module in model.named_modules():
            if owner_of(name, family) == "head":
                _draw(module, model.config.initializer_range, generator)


def _draw(layer: nn.Module, spread: float, generator: torch.Generator) -> None:
    """Start values as the architecture has them: normal weights without biases, norms that change nothing."""
    if isinstance(layer, nn.Linear):
        # Drawn on the CPU, so that a GPU gets the same numbers.
        layer.weight.copy_(torch.empty(layer.weight.shape).normal_(0.0, spread, generator=generator))
        layer.bias.zero_()
    elif isinstance(layer, nn.LayerNorm):
        layer.weight.fill_(1.0)
        layer.bias.zero_()


def _first(names: Sequence[str]) -> str:
    more = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {more:,} more" if more > 0 else "")
