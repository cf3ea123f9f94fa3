"""Preference optimization: a model is trained to prefer one answer to another, as DPO and its relatives do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from vlm_lit.data.preference_datamodule import PreferenceDataModule
from vlm_lit.data.rows.pairs import PairBatch
from vlm_lit.errors import ConfigError
from vlm_lit.objectives.preference_losses import (
    PairLogProbs,
    PreferenceLossSettings,
    needs_corrupted,
    needs_reference,
    preference_loss,
)
from vlm_lit.schema import EvaluationBatch
from vlm_lit.settings import as_settings
from vlm_lit.training.pair_figures import FIGURES, IMAGE_FIGURES, ChosenWatch, PairFigures
from vlm_lit.training.referenced import ReferencedModule
from vlm_lit.training.step import StepModule


class PreferenceModule(StepModule, ReferencedModule):
    """Preference optimization over pairs of answers; a step's loss is the mean over its pairs.

    The reference is the start of the run: the base, or the saved adapter that `adapter` names.

    Args:
        losses: the losses whose weighted sum is a pair's, for example [{name: sigmoid, weight: 0.8}, {name: sft}]; null
            takes sigmoid with beta 0.1, which is DPO. [{name: sigmoid}, {name: image_sigmoid}, {name: anchor}] with
            data.init_args.corrupt is mDPO.
    """

    weighed_in = "pair"
    read_from = "PreferenceDataModule"
    own_figures: Mapping[str, Literal["min", "max"] | None] = FIGURES

    def __init__(
        self,
        model_id: str,
        *,
        losses: list[PreferenceLossSettings] | None = None,
        **settings: Any,  # noqa: ANN401 - those of the classes above
    ) -> None:
        super().__init__(model_id, **settings)
        self.losses = _losses(losses)
        self.compares, self.corrupts = needs_reference(self.losses), needs_corrupted(self.losses)
        self.own_figures = {**FIGURES, **(IMAGE_FIGURES if self.corrupts else {})}
        self.figures = PairFigures(self.losses)
        self._watch = ChosenWatch(sft=any(loss.name == "sft" for loss in self.losses))

    def setup(self, stage: str) -> None:
        """Refuse data that lack what a loss looks at, or have what none does.

        Raises:
            ConfigError: naming both settings.
        """
        data = self.data
        if isinstance(data, PreferenceDataModule):
            check_corruption(self.losses, data.corrupt)

    def loss(self, batch: PairBatch) -> Tensor:
        """Summed loss of a micro-batch's pairs (a scalar)."""
        pairs = self.log_probs(batch)
        self.figures.add(pairs)
        return preference_loss(self.losses, pairs).sum()

    def log_probs(self, batch: PairBatch) -> PairLogProbs:
        """The log-probabilities of a micro-batch's pairs by the policy, and by the reference where a loss needs it."""
        policy, reference, lengths = self.policy_and_reference(batch)
        both = 2 * batch.weight  # the chosen and rejected ones; behind them those behind corrupted pictures
        return PairLogProbs(
            chosen=policy[0:both:2],
            rejected=policy[1:both:2],
            chosen_lengths=lengths[0:both:2],
            rejected_lengths=lengths[1:both:2],
            reference_chosen=None if reference is None else reference[0:both:2],
            reference_rejected=None if reference is None else reference[1:both:2],
            corrupted=policy[both:] if self.corrupts else None,
            reference_corrupted=reference[both:] if self.corrupts and reference is not None else None,
        )

    # What is logged of pairs -------------------------------------------------------------------------------------

    def _forget_gradients(self) -> None:
        super()._forget_gradients()
        self.figures.forget()

    def _log_step(self, loss: float, norm: float, groups: list[dict[str, object]]) -> None:
        super()._log_step(loss, norm, groups)
        found = self.figures.finish(self.ranks)
        self.log_dict({f"train/{name}": value for name, value in found.items()}, batch_size=1)
        if self.figures.has_reference:
            self._watch.see(found)

    def on_validation_epoch_start(self) -> None:
        """Begin with no answers, no loss and no pairs."""
        super().on_validation_epoch_start()
        self.figures.forget()

    def on_test_epoch_start(self) -> None:
        """Begin with no answers, no loss and no pairs."""
        super().on_test_epoch_start()
        self.figures.forget()

    def _measured(self, batch: EvaluationBatch) -> None:
        before = self.figures.mark()
        try:
            super()._measured(batch)
        except Exception:  # if memory ran out, its pairs come once more
            self.figures.back_to(before)
            raise

    def _finish(self, split: str, more: Mapping[str, float] = MappingProxyType({})) -> None:
        super()._finish(split, {**more, **self.figures.finish(self.ranks)})


def check_corruption(losses: Sequence[PreferenceLossSettings], corrupt: str | None) -> None:
    """Refuse a loss that looks at corrupted pictures where the data have none, and such pictures where no loss does.

    Raises:
        ConfigError: naming both settings.
    """
    if needs_corrupted(losses) and corrupt is None:
        raise ConfigError(
            "model.losses has image_sigmoid, which compares the chosen answer with itself behind a corrupted picture, "
            "and data.corrupt asks for none. Set data.init_args.corrupt to crop (mDPO), blank or shuffle."
        )
    if corrupt is not None and not needs_corrupted(losses):
        raise ConfigError(
            f"data.corrupt is {corrupt}, and none of model.losses looks at corrupted pictures. Add {{name: "
            "image_sigmoid} to model.init_args.losses, or leave data.init_args.corrupt out."
        )


def _losses(given: Sequence[Any] | None) -> list[PreferenceLossSettings]:
    """The losses as settings, which in Python may be mappings of their fields."""
    if given is None:
        return [PreferenceLossSettings()]
    if not given:
        raise ConfigError("model.losses is empty. Name one at least, or leave it out for sigmoid, which is DPO.")
    return [as_settings(PreferenceLossSettings, one, f"model.losses[{k}]") for k, one in enumerate(given)]
