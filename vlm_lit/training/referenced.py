"""Reference beside a trained model: the start of the run, asked in every step or ahead of the first."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from vlm_lit.data.checkpoint.processors import processor_identity
from vlm_lit.data.preference_datamodule import PreferenceDataModule
from vlm_lit.data.records.preference_dataset import PreferenceDataset
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import WEIGHTS, file_sha256
from vlm_lit.models.reference import Reference
from vlm_lit.models.shared_tower import SharedTower
from vlm_lit.objectives.log_probs import answer_log_probs
from vlm_lit.schema import TokenBatch
from vlm_lit.training.answered import AnsweredModule
from vlm_lit.training.identity import library_versions
from vlm_lit.training.reference_store import ReferenceStore, filled


class ReferencedModule(AnsweredModule):
    """A module that compares its answers' log-probabilities with those of its own start.

    Args:
        dropout: let the model's dropout act in training, `lora.dropout` among it; off by default, as in TRL, since
            policy and reference would differ by chance. The reference has none in any case.
        reference_store: folder to keep the reference's log-probabilities in: computed once, ahead of the first step,
            and read from then on, in this run and in later ones; null asks the reference in every step.
    """

    compares = True
    """Whether the loss looks at the reference at all."""

    def __init__(
        self,
        model_id: str,
        *,
        dropout: bool = False,
        reference_store: str | None = None,
        **settings: Any,  # noqa: ANN401 - those of the classes above
    ) -> None:
        super().__init__(model_id, **settings)
        self.dropout, self.reference_store = dropout, reference_store
        self._reference: Reference | None = None

    def train(self, mode: bool = True) -> ReferencedModule:
        """Training mode for the parts that are trained, their dropout left out unless it is asked for."""
        super().train(mode)
        for module in self.modules() if not self.dropout else ():
            module.training = module.training and not isinstance(module, nn.Dropout)
        return self

    def _load(self) -> None:
        if self.lora.start == "loftq" and self.adapter is None and self.compares:
            raise ConfigError(
                "lora.start is loftq, at which the model is another one than its 4-bit base, and the reference of a "
                "preference run is that base. Set lora.start to random or pissa, or adapter to the adapter/ of a run "
                "that began so."
            )
        super()._load()
        _ = self.reference  # before a checkpoint is put on the model

    @property
    def needs_originals(self) -> bool:
        """Whether they are the reference, which a saved adapter's copy is otherwise."""
        return self.adapter is None

    @property
    def needs_adapter(self) -> bool:
        """Always: it is the reference, whatever the policy goes on from."""
        return True

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

    # Log-probabilities -------------------------------------------------------------------------------------------

    def policy_and_reference(self, batch: TokenBatch) -> tuple[Tensor, Tensor | None, Tensor]:
        """Of each answer [N] its log-probability, that by the reference if it is compared with, and its tokens.

        Answers stand in the order of the batch's `ids`. What the batch knows of the reference is not computed.
        """
        known = getattr(batch, "reference", None)
        if known is None and self.compares:
            with self._tower.first():
                known = self.reference_log_probs(batch)
        with self._tower.second():
            policy, lengths = self.answer_log_probs(batch)
        return policy, None if known is None else known.to(policy.dtype), lengths

    def reference_log_probs(self, batch: TokenBatch) -> Tensor:
        """The reference's log-probability of each answer [N]."""
        dropout = self.training and self.dropout
        if dropout:
            self.eval()
        try:
            with self.reference.in_place():
                return self.answer_log_probs(batch)[0]
        finally:
            if dropout:
                self.train()

    def answer_log_probs(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """The model's log-probability of each answer [N], and its tokens [N]."""
        return answer_log_probs(self.supervised_states(batch), batch.labels, self.logits, segments_BL=batch.segments)

    @cached_property
    def _tower(self) -> SharedTower:
        assert self.family is not None
        return SharedTower(self.base, self.family, self.parts)

    # Ahead of the first step -------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Compute what the reference says of all pairs, if that is to be kept.

        Raises:
            ConfigError: pairs are streamed.
        """
        store, data = self.opened_store(), self.data
        if store is None:
            return
        assert isinstance(data, PreferenceDataModule)
        for split, dataset in data.datasets.items():
            if isinstance(dataset, StreamedSteps):
                raise ConfigError(
                    f"model.reference_store: data.{split} is streamed, so nobody knows its pairs ahead. Set streaming "
                    "to false, or leave reference_store out."
                )
            self._know(store, data, split, dataset)

    def opened_store(self) -> ReferenceStore | None:
        """Where the reference's log-probabilities are kept, once the model is loaded; None where they are not."""
        if self.reference_store is None or not self.compares:
            return None
        data = self.data
        assert isinstance(data, PreferenceDataModule)
        return ReferenceStore(Path(self.reference_store).expanduser(), self._followed_from(data))

    def _know(self, store: ReferenceStore, data: PreferenceDataModule, split: str, dataset: object) -> None:
        if not isinstance(dataset, PreferenceDataset):
            return
        # Lightning puts autocast around steps alone, and this is none.
        with self.trainer.precision_plugin.train_step_context():
            known = filled(
                store,
                dataset,
                data.pair_collator(split),
                self.reference_log_probs,
                ids=dataset.ids,
                device=self.device,
                say=rank_zero_info,
                workers=data.num_workers,
                ranks=self.ranks,
            )
        data.use_reference(split, known)

    def _followed_from(self, data: PreferenceDataModule) -> dict[str, object]:
        """What the reference's log-probabilities follow from, besides the pairs and what is said in them."""
        own = self.identity
        return {
            "base": own["base"],
            "precisions": self.parts.precisions,
            "quantization": own["quantization"],
            "adapter": own["reference_adapter"],
            "lora": None if self.adapter is None else own["lora"],
            "attention": self.attention,
            "precision": str(self.trainer.precision),
            "device": self.device.type,
            "processor": processor_identity(data.processor),
            "over_length": [data.length_limit(), data.over_length],
            "versions": library_versions(),
        }
