"""Supervised words of a collated conversation, read off its labels, never off the text it was made from.

T = tokens of one row, padding left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from transformers import PreTrainedTokenizerBase

from vlm_lit.schema import IGNORE_INDEX

Kind = Literal["prompt", "image", "supervised", "end_of_turn"]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Neighbouring tokens of one kind. `pieces` are the single tokens' texts, for supervised ones."""

    kind: Kind
    text: str
    tokens: int
    pieces: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """One row as the loss sees it.

    `supervised` holds each run of labels as text, stripped and without its end of turn; `end_of_turn` says of each run
    whether its last token ends a turn. A turn without any label is an empty run at the end.
    """

    tokens: int
    segments: tuple[Segment, ...]
    supervised: tuple[str, ...]
    end_of_turn: tuple[bool, ...]

    def count(self, *kinds: Kind) -> int:
        """Number of tokens of these kinds."""
        return sum(segment.tokens for segment in self.segments if segment.kind in kinds)

    @property
    def supervised_share(self) -> float:
        """Supervised tokens, ends of turn included, as a fraction of all."""
        return self.count("supervised", "end_of_turn") / self.tokens


@dataclass(frozen=True, kw_only=True)
class SupervisionReader:
    """How token ids are told apart and turned back into text."""

    tokenizer: PreTrainedTokenizerBase
    end_of_turn: tuple[int, ...]
    image_token: int | None

    def supervision(self, ids: Sequence[int], labels: Sequence[int], *, turns: int) -> Supervision:
        """Read a row.

        Args:
            ids: T token ids.
            labels: T labels, IGNORE_INDEX where nothing is learned.
            turns: how many assistant turns the conversation has.
        """
        runs = [
            [label for _, label in run]
            for learned, run in groupby(zip(ids, labels, strict=True), lambda pair: pair[1] != IGNORE_INDEX)
            if learned
        ]
        ended = [run[-1] in self.end_of_turn for run in runs]
        texts = [self._text(run[:-1] if end else run).strip() for run, end in zip(runs, ended, strict=True)]
        missing = max(0, turns - len(runs))
        return Supervision(
            tokens=len(ids),
            segments=self._segments(ids, labels),
            supervised=(*texts, *[""] * missing),
            end_of_turn=(*ended, *[False] * missing),
        )

    def _segments(self, ids: Sequence[int], labels: Sequence[int]) -> tuple[Segment, ...]:
        kinds = [self._kind(i, label) for i, label in zip(ids, labels, strict=True)]
        segments, at = [], 0
        for kind, group in groupby(kinds):
            tokens = len(list(group))
            own = ids[at : at + tokens]
            pieces = tuple(self._pieces(own)) if kind == "supervised" else ()
            segments.append(Segment(kind=kind, text=self._text(own), tokens=tokens, pieces=pieces))
            at += tokens
        return tuple(segments)

    def _kind(self, token: int, label: int) -> Kind:
        if label != IGNORE_INDEX:
            return "end_of_turn" if token in self.end_of_turn else "supervised"
        return "image" if token == self.image_token else "prompt"

    def _text(self, ids: Sequence[int]) -> str:
        # Nothing is tidied away: a control token that is supervised by mistake has to be seen.
        decoded = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(decoded)

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        """What each token adds to the text; one that ends within a character adds nothing yet."""
        pieces, shown = [], ""
        for i in range(1, len(ids) + 1):
            text = self._text(ids[:i])
            if not text.startswith(shown) or (text.endswith("\ufffd") and i < len(ids)):
                continue
            pieces.append(text[len(shown) :])
            shown = text
        return [piece for piece in pieces if piece]
