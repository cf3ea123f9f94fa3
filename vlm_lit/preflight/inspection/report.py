"""Report of an inspection: everything that it found, and what is wrong in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from vlm_lit.data.records.findings import Findings
from vlm_lit.errors import RecordError
from vlm_lit.models.parts import PartRow
from vlm_lit.preflight.inspection.conversations import Supervision
from vlm_lit.preflight.inspection.features import ImageFit
from vlm_lit.preflight.inspection.gradient_flow import GradientFlow
from vlm_lit.preflight.inspection.lengths import Lengths, Measured


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """One conversation as training sees it, with small copies of its images."""

    id: str
    supervision: Supervision
    images: ImageFit
    thumbnails: tuple[Image.Image, ...]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All that was found. `misfits` are the conversations that are changed, dropped, or stop the run.

    `template` says, a sentence each, what the chat template does with what the records say.
    """

    model_id: str
    model_type: str
    device: str
    precision: str
    steps: int
    effective_batch: int
    parts: list[PartRow]
    conversations: list[Inspected]
    lengths: Lengths
    misfits: list[Measured]
    findings: Findings
    gradients: GradientFlow
    template: list[str]

    @property
    def problems(self) -> list[str]:
        """What would make the run go wrong, a sentence each; empty where all is well."""
        return [*_problems_of_data(self.conversations), *self.findings.problems(), *_problems_of_flow(self.gradients)]

    @property
    def stopping(self) -> RecordError | None:
        """The error that training would end with, of the first record that has one."""
        return next((measured.error for measured in self.misfits if measured.error is not None), None)


def _problems_of_data(conversations: Sequence[Inspected]) -> Iterator[str]:
    for view in conversations:
        open_ends = [str(k + 1) for k, end in enumerate(view.supervision.end_of_turn) if not end]
        if open_ends:
            yield (
                f"{view.id}: the end of assistant turn {', '.join(open_ends)} is not supervised, so the model would "
                "not learn to stop there. Look at the chat template."
            )
        if not view.images.fits:
            yield (
                f"{view.id}: {view.images.placeholders} image placeholders among its tokens, but the model gives "
                f"{view.images.features} {view.images.unit}. The processor does not belong to this model, or one of "
                "the two was changed."
            )


def _problems_of_flow(flow: GradientFlow) -> Iterator[str]:
    stuck = flow.unmoved_trainable
    for why in dict.fromkeys(stuck.values()):
        names = [name for name, reason in stuck.items() if reason == why]
        yield f"{len(names)} trainable parameters did not move ({why}): {_listed(names)}."
    if flow.moved_frozen:
        yield f"{len(flow.moved_frozen)} frozen parameters moved: {_listed(flow.moved_frozen)}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
