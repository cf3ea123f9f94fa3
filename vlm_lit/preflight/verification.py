"""The equalities that `verify` measures: each shortcut against the plain computation, on the user's model.

Everything is computed twice, the short way and the long one, with dropout off and the trained weights moved a little
off their start (LoRA starts at an update of zero, which would make half of the gradients zero both ways).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import lightning
import torch
from lightning import LightningModule
from torch import Tensor, nn

from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.packing import image_key
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.errors import ConfigError, raised
from vlm_lit.models.adapter_state import load_adapter, save_adapter
from vlm_lit.models.attention import unpackable
from vlm_lit.models.loading import needs_autocast
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.models.vision_features import check_cacheable
from vlm_lit.preflight.held_model import held_model
from vlm_lit.preflight.inspection.conversations import SupervisionReader
from vlm_lit.preflight.inspection.features import image_token_of
from vlm_lit.schema import Conversation, EvaluationBatch, StepBatch
from vlm_lit.training.feature_cache import fill, open_store
from vlm_lit.training.protocols import Adapted, Predicts, Towered, Trains

TOLERANCE: Final = {"fp32": 1e-5, "bf16": 3e-2}
"""Largest relative difference that counts as equal: float32 sums in another order; bfloat16 keeps 8 bits of each."""

Verdict = Literal["equal", "DIFFERENT", "refused"]


@dataclass(frozen=True, kw_only=True)
class Equality:
    """One claim, what was measured, and the verdict.

    `loss` and `gradient` are relative differences, None where the claim is about something else.
    """

    name: str
    claim: str
    verdict: Verdict
    loss: float | None = None
    gradient: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class _Way:
    """What a way of computing a step gives: its loss, and the gradient of every trained parameter, as one vector."""

    loss: float
    gradient: Tensor


class Verification:
    """Measures the equalities on a loaded module.

    Args:
        module: has a loss; its model is loaded. Its trained weights are moved.
        data: its data, set up for `fit`.
        conversations: what to compute on.
        bf16: whether anything is computed in bfloat16, which decides what counts as equal.
    """

    def __init__(
        self,
        module: LightningModule,
        data: ConversationDataModule,
        conversations: Sequence[Conversation],
        *,
        bf16: bool,
    ) -> None:
        assert isinstance(module, Trains)
        self.module, self.data, self.conversations = module, data, list(conversations)
        self.trains, self.held = module, held_model(module)
        self.tolerance = TOLERANCE["bf16" if bf16 else "fp32"]
        encoder, policy = data.fitting()
        self.encoder, self.policy = encoder, policy
        module.eval()
        _move(module)

    def equalities(self) -> Iterator[Equality]:
        """Each equality as soon as it is measured."""
        for measure in (self.masked, self.packed, self.cached, self.accumulated, self.generated, self.reloaded):
            yield measure()

    def masked(self) -> Equality:
        """Equality 1."""
        claim = "supervised tokens = the assistant's words and end of turn"
        reader = SupervisionReader(
            tokenizer=self.encoder.tokenizer,
            end_of_turn=self.encoder.end_of_turn,
            image_token=image_token_of(self.held),
        )
        for conversation in self.conversations:
            (batch,) = self._step_batch([conversation], packing=False).micro_batches
            said = [turn.text.strip() for turn in conversation.turns if turn.role == "assistant" and turn.supervised]
            ids, labels = batch.inputs["input_ids"][0].tolist(), batch.labels[0].tolist()
            found = reader.supervision(ids, labels, turns=len(said))
            if list(found.supervised) != said or not all(found.end_of_turn):
                note = f"conversation {conversation.id} supervises something else"
                return Equality(name="mask", claim=claim, verdict="DIFFERENT", note=note)
        return Equality(name="mask", claim=claim, verdict="equal", note=f"{len(self.conversations)} conversations")

    def packed(self) -> Equality:
        """Equality 2."""
        claim = "questions sharing a row = a row each"
        reason = self._unpackable()
        if reason is not None:
            return Equality(name="packed", claim=claim, verdict="refused", note=reason)
        step_batch = self._step_batch(self.conversations, packing=True)
        shared = sum(batch.segments is not None for batch in step_batch.micro_batches)
        if not shared:
            note = "no two of the conversations show the same images after the same words"
            return Equality(name="packed", claim=claim, verdict="refused", note=note)
        note = f"{len(self.conversations)} conversations in {_rows(step_batch)} rows"
        return self._compared("packed", claim, note, step_batch, self._step_batch(self.conversations, packing=False))

    def cached(self) -> Equality:
        """Equality 3."""
        claim, module, held = "vision features from disk = a live tower", self.module, self.held
        shown = [conversation for conversation in self.conversations if conversation.images]
        if not isinstance(module, Towered):
            note = f"{type(module).__name__} does not say what of it is trained (parts)"
            return Equality(name="cached", claim=claim, verdict="refused", note=note)
        try:
            check_cacheable(held.family, str(held.base.config.model_type), module.parts)
        except ConfigError as error:
            return Equality(name="cached", claim=claim, verdict="refused", note=str(error))
        if not shown:
            return Equality(name="cached", claim=claim, verdict="refused", note="no conversation shows an image")
        live = self._step_batch(shown, packing=False)
        with TemporaryDirectory() as folder:
            store = open_store(self.data, held.base, held.family, str(self.module.trainer.precision), folder)
            fill(store, self.data, held.base, held.family, say=lambda _: None, conversations=shown)
            store.refresh()
            stored = self._step_batch(shown, packing=False, store=store)
            assert all(batch.features is not None for batch in stored.micro_batches)
            return self._compared("cached", claim, f"{len(shown)} conversations", stored, live)

    def accumulated(self) -> Equality:
        """Equality 4."""
        claim = "micro-batches of 1 = of 2 = of all"
        step_batches = [
            self._step_batch(self.conversations, packing=False, rows=rows) for rows in (1, 2, len(self.conversations))
        ]
        found = [self._compared("accumulated", claim, "", step_batches[0], other) for other in step_batches[1:]]
        return max(found, key=lambda equality: equality.gradient or 0.0)

    def generated(self) -> Equality:
        """Equality 7."""
        claim = "answers together = one at a time"
        if not isinstance(self.module, Predicts):
            note = f"{type(self.module).__name__} does not answer: it has no predictions(prompts)"
            return Equality(name="generated", claim=claim, verdict="refused", note=note)
        together = self._answers(self.conversations, packing=self._unpackable() is None)
        alone = [
            answer for conversation in self.conversations for answer in self._answers([conversation], packing=False)
        ]
        differ = sum(one != other for one, other in zip(together, alone, strict=True))
        # Where bfloat16 rounds two likeliest tokens to one value, the order of a sum decides between them.
        verdict: Verdict = "equal" if not differ else "DIFFERENT"
        return Equality(name="generated", claim=claim, verdict=verdict, note=f"{differ} of {len(alone)} answers differ")

    def reloaded(self) -> Equality:
        """Equality 8."""
        claim = "saved and loaded adapter = the trained one"
        if not (isinstance(self.module, Adapted) and self.module.model is not None):
            note = f"{type(self.module).__name__} keeps no PEFT adapter"
            return Equality(name="reloaded", claim=claim, verdict="refused", note=note)
        step_batch = self._step_batch(self.conversations, packing=False)
        before = self._way(step_batch)
        with TemporaryDirectory() as folder:
            save_adapter(self.module.model, Path(folder) / "adapter", {})
            with torch.no_grad():
                for parameter in _trained(self.module):
                    parameter.zero_()
            load_adapter(self.module.model, Path(folder) / "adapter")
        after = self._way(step_batch)
        equal = before.loss == after.loss and torch.equal(before.gradient, after.gradient)
        return Equality(
            name="reloaded",
            claim=claim,
            verdict="equal" if equal else "DIFFERENT",
            loss=_relative(before.loss, after.loss),
            gradient=_distance(before.gradient, after.gradient),
            note="bit for bit",
        )

    def _unpackable(self) -> str | None:
        return self.data.shortcuts.unpackable or unpackable(self.held.base, self.held.family)

    # How it is measured --------------------------------------------------------------------------------------------

    def _compared(self, name: str, claim: str, note: str, short: StepBatch, long: StepBatch) -> Equality:
        one, other = self._way(short), self._way(long)
        loss, gradient = _relative(one.loss, other.loss), _distance(one.gradient, other.gradient)
        equal = max(loss, gradient) <= self.tolerance
        verdict: Verdict = "equal" if equal else "DIFFERENT"
        return Equality(name=name, claim=claim, verdict=verdict, loss=loss, gradient=gradient, note=note)

    def _step_batch(
        self,
        conversations: Sequence[Conversation],
        *,
        packing: bool,
        rows: int | None = None,
        store: FeatureStore | None = None,
    ) -> StepBatch:
        most = rows or len(conversations)
        step_batch = raised(StepCollator(self.encoder, self.policy, most, packing=packing, store=store)(conversations))
        moved: StepBatch = self.data.transfer_batch_to_device(step_batch, self.module.device, 0)  # type: ignore[assignment]
        return moved

    def _way(self, step_batch: StepBatch) -> _Way:
        parameters = _trained(self.module)
        for parameter in parameters:
            parameter.grad = None
        loss = 0.0
        for batch in step_batch.micro_batches:
            part = self.trains.loss(batch) / step_batch.weight
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        return _Way(loss=loss, gradient=torch.cat([grad.double().flatten() for grad in grads]))

    def _answers(self, conversations: Sequence[Conversation], *, packing: bool) -> list[str]:
        step_batch = raised(PromptCollator(self.encoder, self.policy, packing=packing)(conversations))
        moved: EvaluationBatch = self.data.transfer_batch_to_device(step_batch, self.module.device, 0)  # type: ignore[assignment]
        assert isinstance(self.module, Predicts)
        return [prediction.prediction for prediction in self.module.predictions(moved)]


def chosen(data: Sequence[Conversation], most: int) -> list[Conversation]:
    """Up to `most` conversations, of which as many as can be show an image that another of them shows.

    Raises:
        ConfigError: there are none.
    """
    groups: dict[str, list[Conversation]] = {}
    for position, conversation in enumerate(data):
        groups.setdefault(image_key(conversation) or f"alone {position}", []).append(conversation)
    if not groups:
        raise ConfigError("The training data holds no conversation.")
    ordered = sorted(groups.values(), key=lambda group: -min(len(group), 3))
    found = [conversation for group in ordered for conversation in group[: max(2, most // 2)]]
    return found[:most]


def in_bfloat16(module: LightningModule, trainer: lightning.Trainer) -> bool:
    """Whether anything of a run is computed in bfloat16."""
    quantization = getattr(module, "quantization", None)
    if isinstance(module, Towered) and isinstance(quantization, QuantizationSettings):
        return needs_autocast(module.parts, getattr(module, "family", None)) or quantization.compute_dtype != "fp32"
    return str(trainer.precision) != "32-true"


def _trained(module: LightningModule) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _move(module: LightningModule) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in _trained(module):
            scale = max(float(parameter.std(correction=0)), 1e-2)
            noise = torch.randn(parameter.shape, generator=generator) * 0.1 * scale
            parameter.add_(noise.to(parameter.device, parameter.dtype))


def _rows(step_batch: StepBatch) -> int:
    return sum(len(batch.labels) for batch in step_batch.micro_batches)


def _relative(one: float, other: float) -> float:
    return abs(one - other) / max(abs(other), 1e-12)


def _distance(one: Tensor, other: Tensor) -> float:
    """Length of the difference over the length of the second vector."""
    return float((one - other).norm() / other.norm().clamp(min=1e-30))
