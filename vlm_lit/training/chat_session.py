"""Chat about pictures over several turns, with a run's model and, on request, its base.

A question goes the way that a record of a data set goes: the same encoder, the same template, the same greedy answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from peft import PeftModel

from vlm_lit.data.conversations.record_forms import formed
from vlm_lit.data.conversations.turns import draft
from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.data.images.images import check_image
from vlm_lit.data.rows.device import to_device
from vlm_lit.data.rows.length_limit import auto_length
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.errors import ConfigError, raised
from vlm_lit.schema import IMAGE, Conversation, ImageRef, Record, Reply, Turn
from vlm_lit.training.answering import Answering
from vlm_lit.training.opened_model import OpenedModel

_WHERE = "the conversation"


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """An answer, and by whom.

    Args:
        by: tuned, base, or model where there is only one.
        reply: the answer.
    """

    by: str
    reply: Reply


@dataclass
class _Side:
    """One of the two that answer, with the conversation as it was held with this one."""

    name: str
    tuned: bool
    turns: list[Turn] = field(default_factory=list)


class ChatSession:
    """A conversation about pictures with an opened model, and on request with its base.

    Args:
        opened: the model.
        compare: let the base answer as well, in a conversation of its own.
        images: picture files that the first question is about.
        system: system message instead of the run's.
        max_new_tokens: longest answer instead of the run's.

    Raises:
        ConfigError: there is no base to compare with, or a picture cannot be used.
    """

    def __init__(
        self,
        opened: OpenedModel,
        *,
        compare: bool = False,
        images: Sequence[Path] = (),
        system: str | None = None,
        max_new_tokens: int | None = None,
    ) -> None:
        if compare and not isinstance(opened.model, PeftModel):
            raise ConfigError(f"{opened.name} is a whole model: there is no base to compare it with. Name a run.")
        self.opened = opened
        settings = opened.settings
        self.system = settings.system if system is None else system
        self.max_new_tokens = settings.max_new_tokens if max_new_tokens is None else max_new_tokens
        self._sides = [_Side("tuned" if compare else "model", tuned=True)]
        self._sides += [_Side("base", tuned=False)] if compare else []
        self._collator = self._collates(0)
        self._answering = Answering(
            opened.model, opened.family, opened.encoder, settings.answer_from, answer_schema=settings.answer_schema
        )
        self.images: tuple[ImageRef, ...] = ()
        self.show(images)

    def show(self, images: Sequence[Path]) -> None:
        """Begin a conversation about other pictures.

        Raises:
            ConfigError: one cannot be used; names it. The conversation before it stays.
        """
        self.images = tuple(map(_picture, images))
        self._collator = self._collates(len(images))
        self.reset()

    def _collates(self, images: int) -> PromptCollator:
        """Makes batches of conversations about so many pictures."""
        encoder, settings = self.opened.encoder, self.opened.settings
        limit = settings.max_length
        if limit == "auto":
            limit = auto_length(encoder.processor, images).limit
        policy = OverLengthPolicy(encoder, limit, settings.over_length)
        return PromptCollator(encoder, policy, packing=settings.packing)

    def reset(self) -> None:
        """Forget what was said; the pictures stay."""
        for side in self._sides:
            side.turns = []

    def ask(self, words: str) -> list[Spoken]:
        """The answer to the next question, or both answers. What fails is not remembered.

        Raises:
            VlmLitError: the question cannot be asked: it is empty, or makes the conversation too long.
        """
        asked = self._turn(words)
        answers = [(side, self._answer(side, asked)) for side in self._sides]
        for side, (turn, reply) in answers:
            side.turns += [turn, Turn(role="assistant", content=(reply.text,))]
        return [Spoken(by=side.name, reply=reply) for side, (_, reply) in answers]

    def _turn(self, words: str) -> Turn:
        """The user's turn, from the run's prompt as a data set's question would be. `<image>` in it is text."""
        settings = self.opened.settings
        record = Record(file=_WHERE, index=len(self._sides[0].turns) // 2, fields={"question": words})
        prompt = settings.prompt if settings.takes_question_alone else None
        (turn,) = draft(formed(record, prompt), prompt, "text").turns
        return turn

    def _answer(self, side: _Side, asked: Turn) -> tuple[Turn, Reply]:
        if not side.turns:
            asked = replace(asked, content=(*(IMAGE for _ in self.images), *asked.content))
        system = [Turn(role="system", content=(self.system,))] if self.system else []
        number = len(side.turns) // 2
        conversation = Conversation(
            id="chat", turns=(*system, *side.turns, asked), images=self.images, file=_WHERE, record=f"question {number}"
        )
        (batch,) = raised(self._collator([conversation])).batches
        to_device(batch, self.opened.device)
        with torch.inference_mode(), self.opened.computing(), self._as(side):
            (reply,) = self._answering.replies(batch, self.max_new_tokens)
        return asked, reply

    def _as(self, side: _Side) -> AbstractContextManager[object]:
        model = self.opened.model
        return nullcontext() if side.tuned or not isinstance(model, PeftModel) else model.disable_adapter()


def _picture(path: Path) -> ImageRef:
    ref = ImageRef(path=path.expanduser().absolute())
    try:
        check_image(ref)
    except ImageProblem as found:
        if found.code == "image.missing":
            raise ConfigError(f"There is no picture {path}. Name a file that is here.") from None
        raise ConfigError(f"The picture {path}: {found.problem}. {found.remedy}") from None
    return ref
