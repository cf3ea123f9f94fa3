"""The equalities that `verify` measures of pairs: those of conversations, and that the reference is the run's start.

What the start says is asked of the model before its weights are moved; what the reference says, after some real steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, runtime_checkable

import torch
from lightning import LightningModule
from torch import Tensor

from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.pairs import Corrupts, PairBatch, PairCollator
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.errors import raised
from vlm_lit.preflight.equality import Equality, compared, distance
from vlm_lit.preflight.inspection.gradient_flow import real_step, run_optimizer
from vlm_lit.preflight.verification import Verification
from vlm_lit.schema import Conversation, Preference, StepBatch, TokenBatch
from vlm_lit.training.ranks import Ranks
from vlm_lit.training.reference_store import ReferenceStore, filled

_STEPS: Final = 3


@runtime_checkable
class Refers(Protocol):
    """A module that compares its answers' log-probabilities with those of its own start."""

    compares: bool

    def answer_log_probs(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """The log-probability of each answer [N], and its tokens [N]."""

    def reference_log_probs(self, batch: TokenBatch) -> Tensor:
        """The same by the reference [N]."""


class PairVerification(Verification[Preference]):
    """Measures the equalities of a preference run whose model is loaded.

    Args:
        module: has a loss; its model is loaded, and as the run starts. Its trained weights are moved.
        data: its data, set up for `fit`.
        collator: the data's.
        pairs: what to compute on.
        bf16: whether anything is computed in bfloat16, which decides what counts as equal.
    """

    called = "pairs"

    def __init__(
        self,
        module: LightningModule,
        data: TokenRows[Any],
        collator: PairCollator,
        pairs: Sequence[Preference],
        *,
        bf16: bool,
    ) -> None:
        self.corrupted: Corrupts | None = collator.corrupted
        self.start: list[Tensor] = []
        self.kept: dict[str, float] = {}
        super().__init__(module, data, pairs, bf16=bf16)

    def equalities(self) -> Iterator[Equality]:
        """Each equality as soon as it is measured; the one that takes steps comes last."""
        yield from super().equalities()
        yield self.referenced()

    def said(self, item: Preference) -> Sequence[Conversation]:
        """Both sides of a pair, and the chosen one behind a corrupted picture where the run has it."""
        return [*item.sides, *([self.corrupted(item)] if self.corrupted is not None else [])]

    def collated(self, steps: StepCollator, items: Sequence[Preference]) -> StepBatch[PairBatch]:
        """A step batch of pairs."""
        return raised(PairCollator(steps, corrupted=self.corrupted)(items))

    def look_at_start(self) -> None:
        """Keep what the model says of the pairs as it starts, and what a store holds that is filled then."""
        if not (isinstance(self.module, Refers) and self.module.compares):
            return
        with torch.no_grad():
            self.start = [self.module.answer_log_probs(batch)[0] for batch in self._shared().micro_batches]
        steps = StepCollator(self.encoder, self.policy, len(self.items), packing=self._unpackable() is None)
        collator = PairCollator(steps, corrupted=self.corrupted)
        with TemporaryDirectory() as folder:
            for _ in range(2):  # filled, then read
                store = ReferenceStore(Path(folder), {})
                self.kept = filled(
                    store,
                    self.items,
                    collator,
                    self.module.reference_log_probs,
                    ranks=Ranks(),
                    device=self.module.device,
                    say=lambda _: None,
                )
        torch.clear_autocast_cache()  # of weights that are about to change

    def referenced(self) -> Equality:
        """Equality 9."""
        name, claim, module = (
            "referenced",
            f"the reference after {_STEPS} steps = the start; stored = live",
            self.module,
        )
        if not isinstance(module, Refers):
            note = f"{type(module).__name__} has no reference_log_probs(batch) and answer_log_probs(batch)"
            return Equality(name=name, claim=claim, verdict="refused", note=note)
        if not module.compares:
            return Equality(name=name, claim=claim, verdict="refused", note="no loss compares with a reference")
        optimizer = run_optimizer(module)
        for _ in range(_STEPS):
            real_step(module, self._shared(), optimizer)
            torch.clear_autocast_cache()
        live = self._shared()
        after = [module.reference_log_probs(batch) for batch in live.micro_batches]
        stored = replace(live, micro_batches=[self._known(batch) for batch in live.micro_batches])
        found = compared(name, claim, "", self._way(stored), self._way(live), self.tolerance)
        if all(map(torch.equal, after, self.start)):
            wrong = "; what is stored says something else" if found.verdict == "DIFFERENT" else ""
            return replace(found, note=f"{len(self.items)} pairs, live to the last bit{wrong}")
        apart = distance(torch.cat(after).double(), torch.cat(self.start).double())
        note = f"the live reference has drifted from the start by {apart:.1e}"
        return replace(found, verdict="DIFFERENT", note=note)

    def _shared(self) -> StepBatch[Any]:
        return self._step_batch(self.items, packing=self._unpackable() is None)

    def _known(self, batch: PairBatch) -> PairBatch:
        known = torch.tensor([self.kept[name] for name in batch.ids], dtype=torch.float64)
        return replace(batch, reference=known.to(batch.labels.device))
