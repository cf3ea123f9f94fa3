"""The data module for preferences: pairs of answers to train on, and questions or pairs to validate by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from vlm_lit.data.answers.corrupted import CorruptedAnswers, CorruptedItems, Corruption
from vlm_lit.data.checking.ahead import checked_ahead
from vlm_lit.data.checking.examined import Uses
from vlm_lit.data.checking.settled import refuse_skipping, settle
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.data.dealing import ItemCost
from vlm_lit.data.record_datamodule import ValidateBy
from vlm_lit.data.records.preference_dataset import PreferenceDataset, holds_pairs, open_preferences, open_prompts
from vlm_lit.data.records.record_dataset import RecordDataset
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.data.rows.packing import size_of
from vlm_lit.data.rows.pairs import PairCollator, PairEvaluationCollator
from vlm_lit.errors import ConfigError
from vlm_lit.schema import Conversation, Preference


class PreferenceDataModule(ConversationDataModule):
    """Pairs of a chosen and a rejected answer to train on, from the same sources as conversations.

    What `ConversationDataModule` counts in conversations for training is counted in pairs: `effective_batch` are pairs,
    and `questions_per_row` are pairs that share a row. A row of `micro_batch` holds a pair, or several about one
    picture; where the model does not allow shared rows, a pair takes two rows of one micro-batch.

    `val` may hold pairs, whose loss, rewards and accuracies are measured, or conversations, whose answers are judged as
    in supervised fine-tuning, so that a preference that costs accuracy is seen. So may `test`. `predict` answers the
    prompts of pairs, as it does conversations.

    Args:
        corrupt: the picture behind which the chosen answer is shown once more, for the loss image_sigmoid: `crop` shows
            a random part of up to a fifth of the picture's area, enlarged to its size (mDPO), `blank` a grey picture of
            its size, `shuffle` another pair's. It follows from the seed and the record. Null for none.
    """

    items = "pairs"

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401 - those of the class above
        corrupt: Corruption | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*arguments, **settings)
        self.corrupt: Corruption | None = corrupt
        self._validate_by = self.validate_by
        self._reference: dict[str, Mapping[str, float]] = {}
        self._corrupted: dict[str, CorruptedAnswers] = {}

    def setup(self, stage: str) -> None:
        """Open and check the sources that `stage` needs.

        Raises:
            ConfigError: pictures cannot be corrupted as is asked for.
        """
        super().setup(stage)
        if self.corrupt == "crop" and self.feature_cache is not None:
            raise ConfigError(
                "data.corrupt is crop, which is another picture for each pair, and data.feature_cache keeps the "
                "features of pictures that come again. Leave feature_cache out, or set corrupt to blank or shuffle."
            )
        for split in self.datasets:
            _ = self.corrupted(split)  # what cannot be is refused before the model is loaded

    def corrupted(self, split: str) -> CorruptedAnswers | None:
        """What shows the chosen answers of a split's pairs behind corrupted pictures; None where that is not asked for.

        Raises:
            ConfigError: there is no other picture to show.
        """
        dataset = self._opened(split)
        if self.corrupt is None or not isinstance(dataset, PreferenceDataset | StreamedSteps):
            return None
        if split not in self._corrupted:
            if self.corrupt == "shuffle" and isinstance(dataset, StreamedSteps):
                raise ConfigError(
                    f"data.corrupt is shuffle, and data.{split} is streamed, so nobody knows other pictures. Set it to "
                    "blank or crop, or streaming to false."
                )
            pairs: Any = dataset
            self._corrupted[split] = CorruptedAnswers(self.corrupt, pairs, seed=self.seed)
        return self._corrupted[split]

    def open(  # type: ignore[override] # of other items
        self, split: str, source: SourceSettings
    ) -> RecordDataset[Any] | StreamedSteps[Any]:
        """Open a split's source and check its records."""
        pairs = split == "train" or holds_pairs(source)
        if split == "val":
            self.validate_by = _validated_by(self._validate_by, pairs=pairs)
        if not pairs:
            return super().open(split, source)
        if split == "predict" and not source.streaming:
            return open_prompts(
                source,
                prompt=self.prompt,
                system=self.system,
                check_images=self.check_images != "none",
                check=partial(self._check_ahead, split),
            )
        if self.blind is not None:
            raise ConfigError(
                f"data.blind is {self.blind}, and data.{split} holds pairs, which are shown their images."
            )
        refuse_skipping(self.bad_records, streamed=source.streaming)
        return open_preferences(
            source,
            prompt=self.prompt,
            system=self.system,
            training=split == "train",
            check_images=self.check_images != "none",
            check=self._check_pairs,
            pictured=self.corrupt is not None,
        )

    def _check_pairs(self, dataset: PreferenceDataset) -> None:
        """Go through all records as the run will use them."""
        images = None if self.check_images == "none" else self.check_images
        uses = Uses(learns=True, asks=False, over_length=self.over_length, images=images)
        settle(dataset, checked_ahead(dataset, self.text_lengths, uses, self.longest), self.bad_records)

    def size(self, item: Conversation | Preference) -> tuple[int, int]:
        """An item's images, and the letters of all that is said in it."""
        if isinstance(item, Conversation):
            return super().size(item)
        return len(item.images), sum(size_of(side)[1] for side in (item.chosen, item.rejected))

    def costs(self, items: Any) -> list[ItemCost] | None:  # noqa: ANN401 - of conversations or of pairs
        """What each item costs; a pair whose answers have rows of their own shows its images twice.

        Rows behind corrupted pictures are not counted: each pair has one.
        """
        found = super().costs(items)
        if found is None or self.packs or not isinstance(items, PreferenceDataset):
            return found
        return [ItemCost(words, images, 2 * pictures) for words, images, pictures in found]

    def use_reference(self, split: str, log_probs: Mapping[str, float]) -> None:
        """Hand the reference's log-probabilities of a split's answers, by the answer's id, to its batches."""
        self._reference[split] = log_probs

    def _opened(self, split: str) -> object:
        """A split's data set, of pairs or of conversations."""
        return self.datasets[split]

    def also_shown(self) -> Sequence[CorruptedItems]:
        """The chosen answers behind grey pictures; other pairs' pictures are shown by these pairs."""
        found = []
        for split in self.datasets:
            corrupted, pairs = self.corrupted(split), self._opened(split)
            if self.corrupt == "blank" and corrupted is not None and isinstance(pairs, PreferenceDataset):
                found.append(CorruptedItems(pairs, corrupted))
        return found

    def collator(self) -> PairCollator:  # type: ignore[override] # of other items
        """What makes a step batch of pairs."""
        return self.pair_collator("train")

    def pair_collator(self, split: str) -> PairCollator:
        """What makes a step batch of a split's pairs."""
        steps = self.step_collator(*(() if split in ("train", "val") else (split,)))
        return PairCollator(steps, self._reference.get(split), self.corrupted(split))

    def asks(self, split: str) -> bool:
        """Whether the questions of a split are answered; pairs are measured."""
        opened: object = self.datasets.get(split)
        return super().asks(split) and not isinstance(opened, PreferenceDataset)

    def course(self) -> dict[str, Any]:
        """What training's pairs and their order follow from; a run that goes on must have the same."""
        return {**super().course(), **({} if self.corrupt is None else {"corrupt": self.corrupt})}

    def evaluated(self, split: str) -> Any:  # noqa: ANN401 - of conversations or of pairs
        """What an evaluation of a split measures or asks."""
        dataset = self._opened(split)
        return dataset if isinstance(dataset, PreferenceDataset) else super().evaluated(split)

    def evaluation_collator(self, split: str) -> Any:  # noqa: ANN401 - of conversations or of pairs
        """What makes batches of a split's pairs, or of its prompts."""
        dataset = self._opened(split)
        if isinstance(dataset, PreferenceDataset):
            return PairEvaluationCollator(self.pair_collator(split))
        return super().evaluation_collator(split)


def _validated_by(asked: ValidateBy, *, pairs: bool) -> ValidateBy:
    """What a validation measures: of pairs their loss, of conversations their answers.

    Raises:
        ConfigError: something else is asked for.
    """
    found: ValidateBy = "loss" if pairs else "answers"
    if asked not in ("both", found):
        held = "pairs, which are not answered" if pairs else "conversations, of which there is no preference loss"
        raise ConfigError(
            f"data.init_args.validate_by is {asked}, and data.val holds {held}. Set it to {found}, or leave it at both."
        )
    return found
