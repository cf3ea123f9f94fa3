"""Token ids of candidate answers for closed-set scoring: the tokens that training would supervise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PIL import Image

from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import IGNORE_INDEX, IMAGE, Conversation, ImageRef, Turn

_AT_ONCE: Final = 64


def candidate_tokens(encoder: ConversationEncoder, answers: Sequence[str]) -> list[list[int]]:
    """Each answer's token ids, its end of turn included.

    Raises:
        ConfigError: the tokenizer joins an answer's first letters with what stands before it, so that no tokens of its
            own follow the prompt; or the checkpoint refuses the answer.
    """
    found: list[list[int]] = []
    for at in range(0, len(answers), _AT_ONCE):
        found += _tokens(encoder, answers[at : at + _AT_ONCE])
    return found


def _tokens(encoder: ConversationEncoder, answers: Sequence[str]) -> list[list[int]]:
    asked = [_answered(encoder, answer) for answer in answers]
    pictures = [[ref.pixels for ref in c.images if ref.pixels is not None] for c in asked]
    try:
        question = encoder.encode(asked[:1], pictures[:1], side="right", for_generation=True)
        batch = encoder.encode(asked, pictures, side="right")
    except RecordError as error:
        raise ConfigError(f"model.answer_from cannot be scored: {error.problem}. {error.remedy}") from error
    prompt, found = question.inputs["input_ids"][0].tolist(), list[list[int]]()
    for answer, row, labels in zip(answers, batch.inputs["input_ids"].tolist(), batch.labels.tolist(), strict=True):
        said = [label for label in labels if label != IGNORE_INDEX]
        if row[: len(prompt) + len(said)] != prompt + said:
            raise ConfigError(
                f"model.answer_from cannot be scored: the tokenizer writes the prompt before {answer!r} differently "
                "than the prompt alone. Let the model generate (answer_from: null)."
            )
        found.append(said)
    return found


def _answered(encoder: ConversationEncoder, answer: str) -> Conversation:
    """Any question, answered so. Where the checkpoint's way of asking takes no text alone, about a blank picture."""
    images = () if isinstance(encoder, Encoder) else (ImageRef(pixels=Image.new("RGB", (32, 32))),)
    turns = (Turn(role="user", content=(*(IMAGE,) * len(images), "?")), Turn(role="assistant", content=(answer,)))
    return Conversation(id=answer, turns=turns, images=images)
