"""The equalities that `verify` measures: each shortcut against the plain computation, on the user's model.

Everything is computed twice, the short way and the long one, with dropout off and the trained weights moved a little
off their start (LoRA starts at an update of zero, which would make half of the gradients zero both ways).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic

import torch
from lightning import LightningModule

from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.records.record_dataset import Item
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.packing import image_key
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.errors import ConfigError, raised
from vlm_lit.models.adapter_state import load_adapter, save_adapter
from vlm_lit.models.attention import unpackable
from vlm_lit.models.frozen_start import start_state
from vlm_lit.models.vision_features import check_cacheable
from vlm_lit.preflight.equality import (
    TOLERANCE,
    Equality,
    Verdict,
    Way,
    by_plain_layers,
    compared,
    identical,
    move,
    trained,
    way,
)
from vlm_lit.preflight.held_model import held_model
from vlm_lit.preflight.inspection.conversations import SupervisionReader
from vlm_lit.preflight.inspection.features import image_token_of
from vlm_lit.schema import Conversation, EvaluationBatch, StepBatch
from vlm_lit.training.feature_cache import fill, open_store
from vlm_lit.training.protocols import Adapted, Predicts, Towered, Trains


class Verification(Generic[Item]):
    """Measures the equalities on a loaded module.

    Args:
        module: has a loss; its model is loaded. Its trained weights are moved.
        data: its data, set up for `fit`.
        items: what a step is made of.
        bf16: whether anything is computed in bfloat16, which decides what counts as equal.
    """

    called = "conversations"
    """What the items are called."""

    def __init__(
        self,
        module: LightningModule,
        data: TokenRows[Any],
        items: Sequence[Item],
        *,
        bf16: bool,
    ) -> None:
        assert isinstance(module, Trains)
        self.module, self.data, self.items = module, data, list(items)
        self.trains, self.held = module, held_model(module)
        self.tolerance = TOLERANCE["bf16" if bf16 else "fp32"]
        encoder, policy = data.fitting()
        self.encoder, self.policy = encoder, policy
        module.eval()
        self.look_at_start()
        move(module)

    # What a kind of item says --------------------------------------------------------------------------------------

    def look_at_start(self) -> None:
        """See what is asked of the model as it starts, before its weights are moved."""

    def said(self, item: Item) -> Sequence[Conversation]:
        """The conversations of an item, each as it is learned."""
        assert isinstance(item, Conversation)
        return (item,)

    def collated(self, steps: StepCollator, items: Sequence[Item]) -> StepBatch[Any]:
        """A step batch of items."""
        return raised(steps([one for item in items for one in self.said(item)]))

    def equalities(self) -> Iterator[Equality]:
        """Each equality as soon as it is measured."""
        for measure in (
            self.masked, self.packed, self.cached, self.accumulated, self.plain, self.generated, self.reloaded,
        ):  # fmt: skip
            yield measure()

    def step_of(self, items: Sequence[Item]) -> StepBatch[Any]:
        """Some of the items in micro-batches of one, on the module's device."""
        return self._step_batch(items, packing=False, rows=1)

    def masked(self) -> Equality:
        """Equality 1."""
        claim = "supervised tokens = the assistant's words and end of turn"
        reader = SupervisionReader(
            tokenizer=self.encoder.tokenizer,
            end_of_turn=self.encoder.end_of_turn,
            image_token=image_token_of(self.held),
        )
        conversations = [conversation for item in self.items for conversation in self.said(item)]
        for conversation in conversations:
            (batch,) = raised(StepCollator(self.encoder, self.policy, 1)([conversation])).micro_batches
            said = [turn.text.strip() for turn in conversation.turns if turn.role == "assistant" and turn.supervised]
            ids, labels = batch.inputs["input_ids"][0].tolist(), batch.labels[0].tolist()
            found = reader.supervision(ids, labels, turns=len(said))
            if list(found.supervised) != said or not all(found.end_of_turn):
                note = f"conversation {conversation.id} supervises something else"
                return Equality(name="mask", claim=claim, verdict="DIFFERENT", note=note)
        return Equality(name="mask", claim=claim, verdict="equal", note=f"{len(conversations)} conversations")

    def packed(self) -> Equality:
        """Equality 2."""
        claim = "questions sharing a row = a row each"
        reason = self._unpackable()
        if reason is not None:
            return Equality(name="packed", claim=claim, verdict="refused", note=reason)
        step_batch = self._step_batch(self.items, packing=True)
        shared = sum(batch.segments is not None for batch in step_batch.micro_batches)
        if not shared:
            note = "no two of the conversations show the same images after the same words"
            return Equality(name="packed", claim=claim, verdict="refused", note=note)
        note = f"{len(self.items)} {self.called} in {_rows(step_batch)} rows"
        return self._compared("packed", claim, note, step_batch, self._step_batch(self.items, packing=False))

    def cached(self) -> Equality:
        """Equality 3."""
        claim, module, held = "vision features from disk = a live tower", self.module, self.held
        shown = [item for item in self.items if item.images]
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
            said = [conversation for item in shown for conversation in self.said(item)]
            fill(store, self.data, held.base, held.family, say=lambda _: None, conversations=said)
            store.refresh()
            stored = self._step_batch(shown, packing=False, store=store)
            assert all(batch.features is not None for batch in stored.micro_batches)
            return self._compared("cached", claim, f"{len(shown)} {self.called}", stored, live)

    def accumulated(self) -> Equality:
        """Equality 4."""
        claim = "micro-batches of 1 = of 2 = of all"
        step_batches = [self._step_batch(self.items, packing=False, rows=rows) for rows in (1, 2, len(self.items))]
        found = [self._compared("accumulated", claim, "", step_batches[0], other) for other in step_batches[1:]]
        return max(found, key=lambda equality: equality.gradient or 0.0)

    def plain(self) -> Equality:
        """Layers of our own, in the rows that training has."""
        step_batch = self._step_batch(self.items, packing=self._unpackable() is None)
        return by_plain_layers(lambda: self._way(step_batch), self.tolerance)

    def generated(self) -> Equality:
        """Equality 7."""
        claim = "answers together = one at a time"
        if not isinstance(self.module, Predicts):
            note = f"{type(self.module).__name__} does not answer: it has no predictions(prompts)"
            return Equality(name="generated", claim=claim, verdict="refused", note=note)
        asked = [self.said(item)[0] for item in self.items]
        together = self._answers(asked, packing=self._unpackable() is None)
        alone = [answer for conversation in asked for answer in self._answers([conversation], packing=False)]
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
        step_batch = self._step_batch(self.items, packing=False)
        before = self._way(step_batch)
        with TemporaryDirectory() as folder:
            save_adapter(self.module.model, Path(folder) / "adapter", {})
            with torch.no_grad():
                for tensor in (*trained(self.module), *start_state(self.module.model).values()):
                    tensor.zero_()
            load_adapter(self.module.model, Path(folder) / "adapter")
        return identical("reloaded", claim, before, self._way(step_batch))

    def _unpackable(self) -> str | None:
        return self.data.shortcuts.unpackable or unpackable(self.held.base, self.held.family)

    # How it is measured --------------------------------------------------------------------------------------------

    def _compared(self, name: str, claim: str, note: str, short: StepBatch[Any], long: StepBatch[Any]) -> Equality:
        one, other = self._way(short), self._way(long)
        return compared(name, claim, note, one, other, self.tolerance)

    def _step_batch(
        self,
        items: Sequence[Item],
        *,
        packing: bool,
        rows: int | None = None,
        store: FeatureStore | None = None,
    ) -> StepBatch[Any]:
        steps = StepCollator(self.encoder, self.policy, rows or len(items), packing=packing, store=store)
        moved: StepBatch[Any] = self.data.transfer_batch_to_device(  # type: ignore[assignment]
            self.collated(steps, items), self.module.device, 0
        )
        return moved

    def _way(self, step_batch: StepBatch[Any]) -> Way:
        return way(self.module, self.trains.loss, step_batch)

    def _answers(self, conversations: Sequence[Conversation], *, packing: bool) -> list[str]:
        step_batch = raised(PromptCollator(self.encoder, self.policy, packing=packing)(conversations))
        moved: EvaluationBatch = self.data.transfer_batch_to_device(step_batch, self.module.device, 0)  # type: ignore[assignment]
        assert isinstance(self.module, Predicts)
        return [prediction.prediction for prediction in self.module.predictions(moved)]


def chosen(data: Sequence[Item], most: int) -> list[Item]:
    """Up to `most` items, of which as many as can be show an image that another of them shows.

    Raises:
        ConfigError: there are none.
    """
    groups: dict[str, list[Item]] = {}
    for position, item in enumerate(data):
        groups.setdefault(image_key(item) or f"alone {position}", []).append(item)
    if not groups:
        raise ConfigError("The training data holds no conversation.")
    ordered = sorted(groups.values(), key=lambda group: -min(len(group), 3))
    found = [item for group in ordered for item in group[: max(2, most // 2)]]
    return found[:most]


def _rows(step_batch: StepBatch[Any]) -> int:
    return sum(len(batch.labels) for batch in step_batch.micro_batches)
