"""Report of an inspection, as far as every kind of run has it: the run, its parts, and what one step did to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlm_lit.data.records.findings import Findings
from vlm_lit.errors import RecordError
from vlm_lit.models.parts import PartRow
from vlm_lit.preflight.inspection.gradient_flow import GradientFlow
from vlm_lit.preflight.inspection.lengths import Lengths


@dataclass(frozen=True, kw_only=True)
class RunInspection(ABC):
    """What was found of a run. `items` is what an optimizer step is counted in."""

    items: ClassVar[str] = "conversations"

    model_id: str
    model_type: str
    device: str
    precision: str
    steps: int
    effective_batch: int
    parts: list[PartRow]
    lengths: Lengths
    findings: Findings
    gradients: GradientFlow

    @property
    def problems(self) -> list[str]:
        """What would make the run go wrong, a sentence each; empty where all is well."""
        return [*self.problems_of_items(), *self.findings.problems(), *_problems_of_flow(self.gradients)]

    @abstractmethod
    def problems_of_items(self) -> Iterator[str]:
        """What is wrong with the items that were looked at."""

    @property
    def stopping(self) -> RecordError | None:
        """The error that training would end with, where a record has one."""
        return None


def _problems_of_flow(flow: GradientFlow) -> Iterator[str]:
    stuck = flow.unmoved_trainable
    for why in dict.fromkeys(stuck.values()):
        names = [name for name, reason in stuck.items() if reason == why]
        yield f"{len(names)} trainable parameters did not move ({why}): {_listed(names)}."
    if flow.moved_frozen:
        yield f"{len(flow.moved_frozen)} frozen parameters moved: {_listed(flow.moved_frozen)}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
