"""Encoding of questions for a classifier: the words of one question and the pixels of one picture, no answer.

A picture is decoded and processed once for all the questions that are asked about it together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.encoding import UNFIT
from vlm_lit.data.rows.packing import image_key
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import Conversation

MOST_WORDS: Final = 40
"""Tokens of a question in ViLT, whose checkpoints have that many positions for words."""


@dataclass(frozen=True)
class ClassRow:
    """One question ready for a batch.

    Args:
        conversation: whose it is.
        words: the tokenizer's fields of its words, not padded.
        cut: whether words were left out.
        pixels: the image processor's fields of its picture, [..., H, W] each; rows of one picture share them.
    """

    conversation: Conversation
    words: dict[str, list[int]]
    cut: bool
    pixels: dict[str, Tensor]

    @property
    def tokens(self) -> int:
        """Tokens of its words."""
        return len(self.words["input_ids"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its processed picture, in pixels."""
        height, width = self.pixels["pixel_values"].shape[-2:]
        return height, width


class ClassEncoder:
    """Makes a classifier's inputs of questions: `input_ids`, `pixel_values` and what else its processor gives.

    Args:
        processor: has a `tokenizer` and an `image_processor`.
        most_words: most tokens of a question, those before and behind it included; longer ones are cut.

    Raises:
        ConfigError: fewer than three, which leave no word.
    """

    def __init__(self, processor: ProcessorMixin, most_words: int = MOST_WORDS) -> None:
        if most_words < 3:
            raise ConfigError(f"most_words is {most_words}; a word and the two tokens around it take 3.")
        self.processor, self.most_words = processor, most_words
        self.tokenizer: PreTrainedTokenizerBase = processor.tokenizer

    def rows(
        self,
        conversations: Sequence[Conversation],
        changed: Callable[[Conversation, Image.Image], Image.Image] | None = None,
    ) -> list[ClassRow]:
        """A row for each conversation, in order.

        Args:
            conversations: a question about one picture each.
            changed: what becomes of a decoded picture before it is processed; it is told the first of the
                conversations that show the picture.

        Raises:
            RecordError: one that cannot be asked so, or whose picture cannot be used.
        """
        words = self._words([question_of(conversation) for conversation in conversations])
        shown: dict[str, dict[str, Tensor]] = {}
        rows = []
        for conversation, (fields, cut) in zip(conversations, words, strict=True):
            key = image_key(conversation)
            pixels = shown.get(key) if key is not None else None
            if pixels is None:
                pixels = self._pixels(conversation, changed)
            if key is not None:
                shown[key] = pixels
            rows.append(ClassRow(conversation, fields, cut, pixels))
        return rows

    def inputs(self, rows: Sequence[ClassRow]) -> dict[str, Tensor]:
        """The model's inputs [B, ...] of B rows, words padded to the longest, pictures to the largest."""
        words = self.tokenizer.pad({name: [row.words[name] for row in rows] for name in rows[0].words})
        padded = {name: torch.tensor(values) for name, values in words.items()}
        pixels = {name: _padded([row.pixels[name] for row in rows]) for name in rows[0].pixels}
        if "pixel_mask" not in pixels and len({row.size for row in rows}) > 1:
            raise ConfigError(
                "The image processor makes pictures of different sizes without saying which pixels are padding. Set "
                "data.init_args.image_processor.do_pad to true, or leave it out."
            )
        return {**padded, **pixels}

    def text_lengths(
        self, conversations: Sequence[Conversation], *, for_generation: bool = False
    ) -> list[int | RecordError]:
        """Tokens of each question as it is written, before it is cut, or what is wrong with it.

        Args:
            conversations: some conversations.
            for_generation: makes no difference; a check of records asks for both.
        """
        found: list[str | RecordError] = []
        for conversation in conversations:
            try:
                found.append(question_of(conversation))
            except RecordError as error:
                found.append(error)
        texts = [text for text in found if isinstance(text, str)]
        lengths = iter([len(ids) for ids in self.tokenizer(texts, verbose=False)["input_ids"]] if texts else [])
        return [item if isinstance(item, RecordError) else next(lengths) for item in found]

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour of the pictures that the checkpoint was trained on, as its image processor says it."""
        red, green, blue = (round(255 * mean) for mean in self.processor.image_processor.image_mean)
        return red, green, blue

    def _words(self, texts: Sequence[str]) -> list[tuple[dict[str, list[int]], bool]]:
        """The tokenizer's fields of each text, and whether it was cut."""
        if not texts:
            return []
        whole = self.tokenizer(list(texts), verbose=False)
        rows = [({name: values[i] for name, values in whole.items()}, False) for i in range(len(texts))]
        for i, (fields, _) in enumerate(rows):
            if len(fields["input_ids"]) > self.most_words:
                rows[i] = dict(self.tokenizer(texts[i], truncation=True, max_length=self.most_words)), True
        return rows

    def _pixels(
        self, conversation: Conversation, changed: Callable[[Conversation, Image.Image], Image.Image] | None
    ) -> dict[str, Tensor]:
        (picture,) = load_images(conversation)
        if changed is not None:
            picture = changed(conversation, picture)
        processor: Any = self.processor.image_processor
        try:
            fields = processor([picture], return_tensors="pt")
        except (*UNFIT, RuntimeError) as error:  # by the backend
            width, height = picture.size
            raise RecordError(
                f"the image processor refuses its picture of {width} x {height} pixels ({str(error)[:120]} ...)",
                remedy="Crop or pad it: one that is very long and narrow has no pixels left once it is resized. Are "
                "the settings in the checkpoint's processor files right?",
                file=conversation.file,
                record=conversation.record,
                code="processor.refused",
            ) from error
        return {name: value[0] for name, value in fields.items()}


def question_of(conversation: Conversation) -> str:
    """The words of a question about one picture.

    Raises:
        RecordError: several turns are asked, or it shows no picture or several.
    """
    turns = conversation.turns[:-1] if conversation.turns[-1].role == "assistant" else conversation.turns
    if len(turns) != 1:
        roles = ", ".join(turn.role for turn in turns)
        raise _refusal(
            conversation,
            f"{len(turns)} turns before the answer ({roles}), and a classifier is asked one question",
            "Keep the question alone, without a system message or earlier turns.",
            "question.turns",
        )
    if len(conversation.images) != 1:
        count = len(conversation.images)
        raise _refusal(
            conversation,
            f"{count} images, and a classifier is asked about one",
            "Give it its image, or take it out." if count == 0 else "Keep one image.",
            "question.images",
        )
    text = turns[0].text.strip()
    if not text:
        remedy = "Write a question beside the image, or take it out."
        raise _refusal(conversation, "no words to ask", remedy, "question.words")
    return text


def _refusal(conversation: Conversation, problem: str, remedy: str, code: str) -> RecordError:
    return RecordError(problem, remedy=remedy, file=conversation.file, record=conversation.record, code=code)


def _padded(values: Sequence[Tensor]) -> Tensor:
    """Tensors of one number of dimensions as one [B, ...], zeros at their ends where they are smaller than others."""
    largest = [max(sides) for sides in zip(*(value.shape for value in values), strict=True)]
    whole = values[0].new_zeros((len(values), *largest))
    for row, value in zip(whole, values, strict=True):
        row[tuple(slice(side) for side in value.shape)] = value
    return whole
