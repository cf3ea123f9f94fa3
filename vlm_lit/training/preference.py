"""Preference optimization: a model is trained to prefer one answer to another, as DPO and its relatives do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import WEIGHTS, file_sha256
from vlm_lit.models.reference import Reference
from vlm_lit.models.shared_tower import SharedTower
from vlm_lit.objectives.log_probs import answer_log_probs
from vlm_lit.objectives.preference_losses import (
    PairLogProbs,
    PreferenceLossSettings,
    needs_reference,
    preference_loss,
)
from vlm_lit.schema import TokenBatch
from vlm_lit.settings import as_settings
from vlm_lit.training.answered import AnsweredModule
from vlm_lit.training.pair_figures import FIGURES, ChosenWatch, PairFigures
from vlm_lit.training.step import StepModule


class PreferenceModule(StepModule, AnsweredModule):
    """Preference optimization over pairs of answers; a step's loss is the mean over its pairs.

    The reference is the start of the run: the base, or the saved adapter that `adapter` names.

    Args:
        losses: the losses whose weighted sum is a pair's, for example [{name: sigmoid, weight: 0.8}, {name: sft}]; null
            takes sigmoid with beta 0.1, which is DPO.
        dropout: let the model's dropout act in training, `lora.dropout` among it; off by default, as in TRL, since
            policy and reference would differ by chance. The reference has none in any case.
    """

    weighed_in = "pair"
    read_from = "PreferenceDataModule"
    own_figures = FIGURES

    def __init__(
        self,
        model_id: str,
        *,
        losses: list[PreferenceLossSettings] | None = None,
        dropout: bool = False,
        **settings: Any,  # noqa: ANN401 - those of the classes above
    ) -> None:
        super().__init__(model_id, **settings)
        self.losses, self.dropout = _losses(losses), dropout
        self.figures, self._watch = PairFigures(self.losses), ChosenWatch()
        self._reference: Reference | None = None

    def train(self, mode: bool = True) -> PreferenceModule:
        """Training mode for the parts that are trained, their dropout left out unless it is asked for."""
        super().train(mode)
        for module in self.modules() if not self.dropout else ():
            module.training = module.training and not isinstance(module, nn.Dropout)
        return self

    def _load(self) -> None:
        super()._load()
        _ = self.reference  # before a checkpoint is put on the model

    @property
    def reference(self) -> Reference:
        """The start of the run."""
        if self._reference is None:
            assert self.model is not None
            self._reference = Reference(self.model, of_adapter=self.adapter is not None)
        return self._reference

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be the same for trained weights to fit, the adapter that is the reference among it."""
        start = None if self.adapter is None else file_sha256(Path(self.adapter) / WEIGHTS)
        return {**super().identity, "reference_adapter": start}

    def loss(self, batch: TokenBatch) -> Tensor:
        """Summed loss of a micro-batch's pairs (a scalar)."""
        pairs = self.log_probs(batch)
        self.figures.add(pairs)
        return preference_loss(self.losses, pairs).sum()

    def log_probs(self, batch: TokenBatch) -> PairLogProbs:
        """The log-probabilities of a micro-batch's pairs by the policy, and by the reference where a loss needs it."""
        reference, tower = None, self._tower
        if needs_reference(self.losses):
            with tower.first():
                reference = self.reference_log_probs(batch)
        with tower.second():
            policy, lengths = self._of_answers(batch)
        return PairLogProbs(
            chosen=policy[0::2],
            rejected=policy[1::2],
            chosen_lengths=lengths[0::2],
            rejected_lengths=lengths[1::2],
            reference_chosen=None if reference is None else reference[0::2],
            reference_rejected=None if reference is None else reference[1::2],
        )

    @cached_property
    def _tower(self) -> SharedTower:
        assert self.family is not None
        return SharedTower(self.base, self.family, self.parts)

    def reference_log_probs(self, batch: TokenBatch) -> Tensor:
        """The reference's log-probability of each answer [2 P], in the order of the batch's `ids`."""
        dropout = self.training and self.dropout
        if dropout:
            self.eval()
        try:
            with self.reference.in_place():
                return self._of_answers(batch)[0]
        finally:
            if dropout:
                self.train()

    def _of_answers(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """The log-probability of each answer [2 P] and its tokens [2 P]."""
        return answer_log_probs(self.hidden_states(batch), batch.labels, self.logits, segments_BL=batch.segments)

    # What is logged of pairs -------------------------------------------------------------------------------------

    def _forget_gradients(self) -> None:
        super()._forget_gradients()
        self.figures.forget()

    def _log_step(self, loss: float, norm: float, groups: list[dict[str, object]]) -> None:
        super()._log_step(loss, norm, groups)
        found = self.figures.finish(self.device)
        self.log_dict({f"train/{name}": value for name, value in found.items()}, batch_size=1)
        if self.figures.has_reference:
            self._watch.see(found)

    def on_validation_epoch_start(self) -> None:
        """Begin with no answers, no loss and no pairs."""
        super().on_validation_epoch_start()
        self.figures.forget()

    def _finish(self, split: str, more: Mapping[str, float] = MappingProxyType({})) -> None:
        found = self.figures.finish(self.device) if split == "val" else {}
        super()._finish(split, {**more, **found})


def _losses(given: Sequence[Any] | None) -> list[PreferenceLossSettings]:
    """The losses as settings, which in Python may be mappings of their fields."""
    if given is None:
        return [PreferenceLossSettings()]
    if not given:
        raise ConfigError("model.losses is empty. Name one at least, or leave it out for sigmoid, which is DPO.")
    return [as_settings(PreferenceLossSettings, one, f"model.losses[{k}]") for k, one in enumerate(given)]
