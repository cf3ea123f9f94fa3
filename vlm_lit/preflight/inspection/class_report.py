"""Report of an inspection of a classifier: its questions, what they are to be answered with, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from vlm_lit.preflight.inspection.run_report import RunInspection


@dataclass(frozen=True, kw_only=True)
class InspectedQuestion:
    """One question as training sees it, read off its batch.

    Args:
        id: the record's.
        words: the texts of its tokens.
        left_out: the words that were cut off its end; empty where nothing was.
        targets: how right each answer is, the most right one first; answers that are not right are left out.
        file_size: width and height of its picture's file, in pixels.
        size: width and height of its picture as the model gets it.
        patches: how many patches of that picture the model sees.
        picture: a small copy of it as the model gets it, changed at random where training changes pictures.
    """

    id: str
    words: tuple[str, ...]
    left_out: str
    targets: Mapping[str, float]
    file_size: tuple[int, int]
    size: tuple[int, int]
    patches: int
    picture: Image.Image


@dataclass(frozen=True, kw_only=True)
class ClassInspection(RunInspection):
    """All that was found.

    Args:
        answers: how many answers there are to choose from.
        questions: those that are shown and stepped on.
        cut: by the ids of measured questions that are cut, the tokens that they have.
        untargeted: the ids of looked-at questions that no answer is right for.
    """

    items: ClassVar[str] = "questions"

    answers: int
    questions: list[InspectedQuestion]
    cut: Mapping[str, int]
    untargeted: list[str]

    def problems_of_items(self) -> Iterator[str]:
        """What is wrong with the questions that were looked at."""
        for name in self.untargeted:
            yield (
                f"{name}: no answer to choose from is right, so nothing is learned from it. Look at its answers and at "
                "data.vocabulary."
            )
        if self.cut:
            longest = max(self.cut, key=lambda name: self.cut[name])
            yield (
                f"{len(self.cut):,} of {len(self.lengths.tokens):,} measured questions are longer than data.most_words "
                f"({self.lengths.max_length}) and lose their last words. The longest is {longest}, with "
                f"{self.cut[longest]} tokens. Shorten them, or raise most_words as far as the checkpoint has positions."
            )
