"""Report of an inspection of conversations: everything that it found, and what is wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from vlm_lit.errors import RecordError
from vlm_lit.preflight.inspection.conversations import Supervision
from vlm_lit.preflight.inspection.features import ImageFit
from vlm_lit.preflight.inspection.lengths import Measured
from vlm_lit.preflight.inspection.run_report import RunInspection


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """One conversation as training sees it, with small copies of its images."""

    id: str
    supervision: Supervision
    images: ImageFit
    thumbnails: tuple[Image.Image, ...]


@dataclass(frozen=True, kw_only=True)
class Inspection(RunInspection):
    """All that was found. `misfits` are the conversations that are changed, dropped, or stop the run.

    `template` says, a sentence each, what the chat template does with what the records say.
    """

    conversations: list[Inspected]
    misfits: list[Measured]
    template: list[str]

    def problems_of_items(self) -> Iterator[str]:
        """What is wrong with the shown conversations."""
        for view in self.conversations:
            open_ends = [str(k + 1) for k, end in enumerate(view.supervision.end_of_turn) if not end]
            if open_ends:
                yield (
                    f"{view.id}: the end of assistant turn {', '.join(open_ends)} is not supervised, so the model "
                    "would not learn to stop there. Look at the chat template."
                )
            if not view.images.fits:
                yield (
                    f"{view.id}: {view.images.placeholders} image placeholders among its tokens, but the model gives "
                    f"{view.images.features} {view.images.unit}. The processor does not belong to this model, or one "
                    "of the two was changed."
                )

    @property
    def stopping(self) -> RecordError | None:
        """The error that training would end with, of the first record that has one."""
        return next((measured.error for measured in self.misfits if measured.error is not None), None)
