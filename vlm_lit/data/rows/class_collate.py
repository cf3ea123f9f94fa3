"""Collators of a classifier: questions to a step batch with soft targets, and to prompts that are answered.

B = rows, N = answers of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import torch
from PIL import Image

from vlm_lit.data.conversations.conversations import can_be_learned
from vlm_lit.data.images.rand_augment import AugmentSettings, rand_augment
from vlm_lit.data.of_step import step_of
from vlm_lit.data.rows.class_encoding import ClassEncoder, ClassRow
from vlm_lit.data.rows.micro_batch_size import MicroBatchSize
from vlm_lit.data.rows.prompt_collate import without_pixels
from vlm_lit.data.sampler import derive_seed
from vlm_lit.errors import RecordError
from vlm_lit.schema import ClassBatch, Conversation, EvaluationBatch, PromptBatch, StepBatch


class ClassTargets(Protocol):
    """What makes the targets of a record: for each answer that is right, its position and how right it is."""

    @property
    def size(self) -> int:
        """N, the number of answers."""

    def __call__(self, conversation: Conversation) -> dict[int, float]:
        """A record's targets; empty where none of its answers is among the N."""


AimedRow: TypeAlias = tuple[ClassRow, dict[int, float]]
"""A row with its targets: for each answer that is right its position, and how right it is."""


class ClassCollator:
    """Makes a step batch of questions.

    Rows of pictures of alike shape stand together, so that little is padded. `changed` names the questions whose words
    were cut, `dropped` those without a target: all their answers are outside the vocabulary, and they have no loss.

    Args:
        encoder: makes rows.
        targets: makes their targets.
        micro_batch: most rows of one forward pass; workers that share a `MicroBatchSize` see it shrink.
        augment: random changes of the pictures; none for an evaluation.
        seed: what these are drawn from, together with the step and the picture: the same step draws the same, however
            often it is made, however it is cut, on whichever rank. Questions about one picture see the same changes.
    """

    def __init__(
        self,
        encoder: ClassEncoder,
        targets: ClassTargets,
        micro_batch: int | MicroBatchSize,
        *,
        augment: AugmentSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.encoder, self.targets, self.seed = encoder, targets, seed
        self.micro_batch = micro_batch if isinstance(micro_batch, MicroBatchSize) else MicroBatchSize(micro_batch)
        self.augment = augment if augment is not None else AugmentSettings()

    def __call__(self, conversations: Sequence[Conversation]) -> StepBatch[ClassBatch] | RecordError:
        """Collate a step batch; the error of a bad record is returned, not raised."""
        names = [conversation.id for conversation in conversations]

        def changed(conversation: Conversation, picture: Image.Image) -> Image.Image:
            seed = derive_seed("augment", self.seed, step_of(conversations), _picture_name(conversation))
            return rand_augment(picture, self.augment, seed=seed, fill=self.encoder.fill)

        targets = [self.targets(conversation) for conversation in conversations]
        kept = [conversation for conversation, right in zip(conversations, targets, strict=True) if right]
        try:
            rows = self.encoder.rows(kept, changed if self.augment.operations else None)
        except RecordError as error:
            return error
        aimed = list(zip(rows, filter(None, targets), strict=True))
        return self.step_batch(aimed, [name for name, right in zip(names, targets, strict=True) if not right])

    def step_batch(self, aimed: Sequence[AimedRow], dropped: Sequence[str]) -> StepBatch[ClassBatch]:
        """The step batch of rows with their targets.

        Args:
            aimed: the rows, in any order.
            dropped: the ids of questions that have no target.
        """
        ordered, most = sorted(aimed, key=_shape), self.micro_batch.rows
        return StepBatch(
            micro_batches=[self._batch(ordered[at : at + most]) for at in range(0, len(ordered), most)],
            weight=len(ordered),
            rows=most,
            dropped=list(dropped),
            changed=[row.conversation.id for row, _ in aimed if row.cut],
        )

    def _batch(self, aimed: Sequence[AimedRow]) -> ClassBatch:
        targets_BN = torch.zeros(len(aimed), self.targets.size)
        for i, (_, right) in enumerate(aimed):
            targets_BN[i, list(right)] = torch.tensor(list(right.values()))
        rows = [row for row, _ in aimed]
        return ClassBatch(
            inputs=self.encoder.inputs(rows), ids=[row.conversation.id for row in rows], targets=targets_BN
        )


def _picture_name(conversation: Conversation) -> str:
    """What names a question's picture, wherever the data lie and whichever of its questions a rank has."""
    (image,) = conversation.images
    return image.path.name if image.path is not None else image.digest or conversation.id


def _shape(aimed: AimedRow) -> tuple[int, int, int]:
    """From wide pictures over square ones to tall ones, then from short questions to long ones."""
    row, _ = aimed
    height, width = row.size
    return height - width, height, row.tokens


class ClassPromptCollator:
    """Makes batches of questions that are answered, one batch a call, in the order in which they are given.

    Args:
        encoder: makes rows.
        supervised: makes what training would see of the same questions, where their loss is wanted; their pictures
            are not processed again, nor changed.
        asks: whether the questions are to be answered; without, there is their loss alone.
    """

    def __init__(self, encoder: ClassEncoder, *, supervised: ClassCollator | None = None, asks: bool = True) -> None:
        self.encoder, self.supervised, self.asks = encoder, supervised, asks

    def __call__(self, conversations: Sequence[Conversation]) -> EvaluationBatch | RecordError:
        """Collate questions; the error of a bad record is returned, not raised."""
        try:
            rows = self.encoder.rows(conversations)
        except RecordError as error:
            return error
        evaluation = EvaluationBatch(batches=[], ids=[])
        if self.asks and rows:
            asked = [without_pixels(conversation) for conversation in conversations]
            evaluation.batches = [PromptBatch(inputs=self.encoder.inputs(rows), conversations=asked)]
            evaluation.ids = [conversation.id for conversation in conversations]
        if self.supervised is not None:
            evaluation.supervised, evaluation.unanswered = self._supervised(self.supervised, rows)
        return evaluation

    def _supervised(self, collator: ClassCollator, rows: Sequence[ClassRow]) -> tuple[StepBatch[ClassBatch], list[str]]:
        """The step batch of the rows that have an answer, and the ids of those that have none."""
        answered = [row for row in rows if can_be_learned(row.conversation)]
        aimed = [(row, collator.targets(row.conversation)) for row in answered]
        step_batch = collator.step_batch(
            [(row, right) for row, right in aimed if right],
            [row.conversation.id for row, right in aimed if not right],
        )
        return step_batch, [row.conversation.id for row in rows if not can_be_learned(row.conversation)]
