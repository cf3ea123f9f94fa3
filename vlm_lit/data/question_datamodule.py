"""Data module of conversations, which are trained on and asked in evaluations, whatever the batches made of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from functools import partial
from typing import Any

from vlm_lit.data.answers.blind import BlindPrompts, name_own_images
from vlm_lit.data.answers.evaluation_batches import EvaluatedItems
from vlm_lit.data.answers.judged_turns import TurnItems
from vlm_lit.data.answers.samples import SampledItems
from vlm_lit.data.checking.ahead import checked_ahead
from vlm_lit.data.checking.examined import Uses
from vlm_lit.data.checking.settled import refuse_skipping, settle
from vlm_lit.data.record_datamodule import RecordDataModule
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.data.rows.conversation_encoder import TextLengths
from vlm_lit.data.rows.over_length import OverLength
from vlm_lit.data.rows.packing import size_of
from vlm_lit.errors import VlmLitError
from vlm_lit.schema import Conversation, EvaluationBatch, StepBatch


class QuestionDataModule(RecordDataModule[Conversation]):
    """A data module whose items are conversations.

    Args:
        settings: those of the class above.
    """

    over_length: OverLength = "error"
    """What happens to a conversation that is longer than is allowed."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - as said
        super().__init__(**settings)
        self._asked: dict[str, TurnItems] = {}
        self._samples: tuple[int, Collection[str]] | None = None

    @property
    @abstractmethod
    def text_lengths(self) -> TextLengths:
        """What tells how long the text of a conversation is, or why it cannot be used."""

    def longest(self, images: int) -> int | None:
        """Most tokens of a conversation where none has more than so many images; None for any."""
        return None

    def open(self, split: str, source: SourceSettings) -> ConversationDataset | StreamedSteps[Conversation]:
        """Open a split's source and check its records."""
        refuse_skipping(self.bad_records, streamed=source.streaming)
        return open_source(
            source,
            prompt=self.prompt,
            system=self.system,
            requires_answer=split == "train",
            check_images=self.check_images != "none",
            check=partial(self._check_ahead, split),
        )

    def _check_ahead(self, split: str, dataset: ConversationDataset) -> None:
        """Go through all records as the run will use them."""
        uses = Uses(
            learns=self.learns(split),
            asks=self.asks(split),
            judged=self.judged(split),
            over_length=self.over_length,
            images=None if self.check_images == "none" else self.check_images,
        )
        settle(dataset, checked_ahead(dataset, self.text_lengths, uses, self.longest), self.bad_records)

    def size(self, item: Conversation) -> tuple[int, int]:
        """A conversation's images, and the letters of all it says."""
        return size_of(item)

    def asked(self, split: str) -> TurnItems:
        """What an evaluation of a split asks of its conversations, in the file's order."""
        if split not in self._asked:
            dataset = self.indexed(split)
            assert isinstance(dataset, ConversationDataset)
            self._asked[split] = TurnItems(dataset, self.judged(split))
        return self._asked[split]

    def ask_for_samples(self, samples: int, there: Collection[str] = ()) -> None:
        """Let a prediction ask every question several times, but for the answers that are there already, by name."""
        self._samples = samples, there

    def ids(self, split: str) -> list[str]:
        """The ids of a split's records, in the file's order."""
        dataset = self.indexed(split)
        return dataset.ids or [dataset[i].id for i in range(len(dataset))]

    def evaluated(self, split: str) -> EvaluatedItems[Conversation]:
        """What is asked, with other images or none where an evaluation is blind, or several times."""
        items = self.asked(split)
        if split == "predict" and self._samples is not None:
            samples, there = self._samples
            return SampledItems(items, samples, self.ids(split), there)
        return items if self.blind is None else BlindPrompts(items, self.blind, seed=self.seed)

    def on_before_batch_transfer(
        self, batch: StepBatch[Any] | EvaluationBatch | VlmLitError, dataloader_idx: int
    ) -> StepBatch[Any] | EvaluationBatch:
        """Raise what a worker found wrong; blind prompts name again the images they are about."""
        found = super().on_before_batch_transfer(batch, dataloader_idx)
        return name_own_images(found) if isinstance(found, EvaluationBatch) else found
