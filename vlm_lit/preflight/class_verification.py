"""The equalities that `verify` measures of a classifier: each shortcut against the plain computation.

As for a model that generates (`verification.py`), everything is computed twice, with dropout off and the trained
weights moved a little off their start. B = questions, N = answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, runtime_checkable

import torch
from lightning import LightningModule
from torch import Tensor

from vlm_lit.data.record_datamodule import RecordDataModule
from vlm_lit.data.rows.class_collate import ClassCollator, ClassPromptCollator
from vlm_lit.errors import raised
from vlm_lit.models.adapter_state import load_adapter, save_adapter
from vlm_lit.preflight.asked_training import is_trained
from vlm_lit.preflight.equality import (
    TOLERANCE,
    Equality,
    Way,
    by_plain_layers,
    compared,
    distance,
    identical,
    move,
    way,
)
from vlm_lit.preflight.held_model import held_model
from vlm_lit.preflight.inspection.gradient_flow import digests, gradient_flow
from vlm_lit.schema import Conversation, EvaluationBatch, Prediction, PromptBatch, StepBatch
from vlm_lit.training.module import VisionLanguageModule
from vlm_lit.training.protocols import Predicts, Towered, Trains

_OTHER_SEED: Final = 1


@runtime_checkable
class Scores(Predicts, Protocol):
    """A module that answers by a score for each answer of its vocabulary."""

    def logits(self, batch: PromptBatch) -> Tensor:
        """The scores [B, N] of a batch of questions."""


class ClassVerification:
    """Measures the equalities of a classifier that is loaded.

    Args:
        module: has a loss; its model is loaded. Its trained weights are moved.
        data: its data, set up for `fit`.
        collator: the data's; its pictures are not changed at random here.
        conversations: what to compute on, each with a target.
        bf16: whether anything is computed in bfloat16, which decides what counts as equal.
    """

    def __init__(
        self,
        module: LightningModule,
        data: RecordDataModule[Any],
        collator: ClassCollator,
        conversations: Sequence[Conversation],
        *,
        bf16: bool,
    ) -> None:
        assert isinstance(module, Trains)
        self.module: LightningModule = module
        self.trains, self.data = module, data
        self.encoder, self.targets = collator.encoder, collator.targets
        self.items = self.conversations = list(conversations)
        self.tolerance = TOLERANCE["bf16" if bf16 else "fp32"]
        module.eval()
        move(module)

    def equalities(self) -> Iterator[Equality]:
        """Each equality as soon as it is measured; the one that takes a step comes last."""
        for measure in (self.accumulated, self.plain, self.answered, self.drawn, self.reloaded, self.frozen):
            yield measure()

    def step_of(self, items: Sequence[Conversation]) -> StepBatch[Any]:
        """Some of the questions in micro-batches of one, on the module's device."""
        return self._collated(items, 1)

    def accumulated(self) -> Equality:
        """Loss and gradient of a step, whatever its micro-batches."""
        alone, *others = (self._way(rows) for rows in (1, 2, len(self.conversations)))
        claim, note = "micro-batches of 1 = of 2 = of all", f"{len(self.conversations)} questions"
        found = [compared("accumulated", claim, note, other, alone, self.tolerance) for other in others]
        return max(found, key=lambda equality: max(equality.loss or 0.0, equality.gradient or 0.0))

    def plain(self) -> Equality:
        """Layers of our own."""
        return by_plain_layers(lambda: self._way(len(self.conversations)), self.tolerance)

    def answered(self) -> Equality:
        """Scores and answers of questions, whatever they are answered together with."""
        claim = "answers together = one at a time"
        if not isinstance(self.module, Scores):
            return self._refused("answered", claim, "it has no predictions(prompts) and logits(batch)")
        together, answers = self._answers(self.module, self.conversations)
        one_by_one = [self._answers(self.module, [conversation]) for conversation in self.conversations]
        alone = torch.cat([logits for logits, _ in one_by_one])
        differ = sum(one.prediction != other[0].prediction for one, (_, other) in zip(answers, one_by_one, strict=True))
        apart = distance(together, alone)
        return Equality(
            name="answered",
            claim=claim,
            verdict="equal" if apart <= self.tolerance and not differ else "DIFFERENT",
            note=f"logits by {apart:.1e}; {differ} of {len(answers)} answers differ",
        )

    def drawn(self) -> Equality:
        """The process's random numbers, which ViLT draws from when it answers as well."""
        claim = "an evaluation draws no random number of the run"
        if not isinstance(self.module, Scores):
            return self._refused("drawn", claim, "it has no predictions(prompts) and logits(batch)")
        before = self._random_state()
        first, _ = self._answers(self.module, self.conversations)
        moved = any(not torch.equal(one, other) for one, other in zip(before, self._random_state(), strict=True))
        with torch.random.fork_rng(devices=self._accelerators(), device_type=self._device_type()):
            torch.manual_seed(_OTHER_SEED)
            again, _ = self._answers(self.module, self.conversations)
        same = torch.equal(first, again)
        notes = ["the random state moved"] * moved + ["the answers' scores follow from it"] * (not same)
        return Equality(
            name="drawn",
            claim=claim,
            verdict="DIFFERENT" if notes else "equal",
            note="; ".join(notes) or "bit for bit",
        )

    def reloaded(self) -> Equality:
        """A step of the trained model, and of its saved adapter on a base that is read anew."""
        claim = "saved adapter on a fresh base = the trained model"
        module = self.module
        if not (isinstance(module, VisionLanguageModule) and module.model is not None):
            return self._refused("reloaded", claim, "it keeps no PEFT adapter")
        before, kept = self._way(len(self.conversations)), module.model
        with TemporaryDirectory() as folder:
            save_adapter(kept, Path(folder) / "adapter", {})
            fresh = module.adopt(*module.read_base(module.device))
            load_adapter(fresh, Path(folder) / "adapter")
        module.to(module.device).eval()
        return identical("reloaded", claim, before, self._way(len(self.conversations)))

    def frozen(self) -> Equality:
        """The parameters that a step changes, and those that the parts table lets it change."""
        claim = "one step moves nothing but what is asked for"
        if not isinstance(self.module, Towered):
            return self._refused("frozen", claim, "it does not say what of it is trained (parts)")
        before = digests(self.module)
        gradient_flow(self.module, self._step_batch(len(self.conversations)))
        after = digests(self.module)
        held = held_model(self.module)
        asked = {name for name in after if is_trained(name, held, self.module.parts)}
        moved = {name for name in after if after[name] != before[name]}
        wrong = [name for name in after if name in moved - asked]
        note = f"{len(after) - len(asked):,} tensors bit for bit, {len(moved & asked):,} of {len(asked):,} others moved"
        if wrong:
            note = f"tensors that were not to be trained moved: {len(wrong):,}, the first is {wrong[0]}"
        return Equality(name="frozen", claim=claim, verdict="DIFFERENT" if wrong else "equal", note=note)

    # How it is measured --------------------------------------------------------------------------------------------

    def _refused(self, name: str, claim: str, reason: str) -> Equality:
        note = f"{type(self.module).__name__}: {reason}"
        return Equality(name=name, claim=claim, verdict="refused", note=note)

    def _way(self, rows: int) -> Way:
        return way(self.module, self.trains.loss, self._step_batch(rows))

    def _step_batch(self, rows: int) -> StepBatch[Any]:
        return self._collated(self.conversations, rows)

    def _collated(self, conversations: Sequence[Conversation], rows: int) -> StepBatch[Any]:
        step_batch = raised(ClassCollator(self.encoder, self.targets, rows)(conversations))
        moved: StepBatch[Any] = self.data.transfer_batch_to_device(step_batch, self.module.device, 0)  # type: ignore[assignment]
        return moved

    def _answers(self, module: Scores, conversations: Sequence[Conversation]) -> tuple[Tensor, list[Prediction]]:
        """The scores [B, N] of questions that are answered together, and their answers."""
        asked = raised(ClassPromptCollator(self.encoder)(conversations))
        moved: EvaluationBatch = self.data.transfer_batch_to_device(asked, self.module.device, 0)  # type: ignore[assignment]
        with torch.no_grad():
            logits = torch.cat([module.logits(batch) for batch in moved.batches])
            return logits, module.predictions(moved)

    def _device_type(self) -> str:
        return "cuda" if self.module.device.type == "cpu" else self.module.device.type

    def _accelerators(self) -> list[torch.device]:
        return [] if self.module.device.type == "cpu" else [self.module.device]

    def _random_state(self) -> list[Tensor]:
        """The state of the process's generator, and of its device's."""
        backend = getattr(torch, self._device_type())
        return [torch.get_rng_state(), *(backend.get_rng_state(device) for device in self._accelerators())]
