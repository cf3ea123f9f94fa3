"""The data module for conversations: what a config's `data` section says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from lightning.pytorch.utilities import rank_zero_info
from transformers import ProcessorMixin

from vlm_lit.data.answers.blind import Blind, BlindPrompts, name_own_images
from vlm_lit.data.answers.evaluation_batches import EvaluatedItems
from vlm_lit.data.answers.judged_turns import JudgedTurns, TurnItems
from vlm_lit.data.checking.ahead import checked_ahead
from vlm_lit.data.checking.examined import Uses
from vlm_lit.data.checking.settled import BadRecordSettings, OnBadRecords, refuse_skipping, settle
from vlm_lit.data.checkpoint.image_settings import ImageSetting, ImageSettings
from vlm_lit.data.checkpoint.processors import IMAGE_BACKEND, ImageBackend, check_image_backend, load_processor
from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.records.conversation_dataset import ConversationDataset, most_images, open_source
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.length_limit import TEXT, AutoLength, MaxLength, auto_length
from vlm_lit.data.rows.over_length import OverLength, OverLengthPolicy
from vlm_lit.data.rows.packing import size_of
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.data.run_shortcuts import shortcuts_of_module
from vlm_lit.data.step_datamodule import StepDataModule, check_sizes
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import Conversation, EvaluationBatch, Shortcuts, StepBatch

ValidateBy = Literal["both", "answers", "loss"]


class ConversationDataModule(StepDataModule[Conversation]):
    """Image conversations from JSON, JSONL, Parquet, Arrow or the hub.

    Args:
        model_id: checkpoint whose processor is used; linked to the model's.
        train: what to train on.
        val: what `validate`, and `fit` between epochs, answers.
        test: what `test` answers.
        predict: what `predict` answers; needs no references.
        revision: branch, tag or commit of the checkpoint; linked to the model's.
        prompt: template over a record's fields for VQA records, for example
            "{question}\\nAnswer the question using a single word or phrase."
        system: system message put before every conversation that has none.
        effective_batch: conversations an optimizer step sees, over all ranks.
        micro_batch: most rows in one forward pass; changes memory and speed, not the result. `auto` finds the most that
            fit by trying the longest rows.
        micro_tokens: most tokens in a forward pass of several rows, padding included; null for no limit.
        packing: let questions about one image share a row, the image encoded once; the same result for the same
            conversations, and the same answers in an evaluation. Plain rows are used where the model does not allow it.
        questions_per_row: most questions that share a row. A step sees fewer different images the more there are.
        eval_batch: most prompts answered together; neighbours in the file that show the same images are not parted.
        max_length: most tokens of a conversation, image tokens included; `auto` for what its images may need at most
            and 2048 for its words, null for no limit.
        over_length: what happens to a longer one: error, drop, trim_text or shrink_image.
        num_workers: processes that decode and tokenize; 0 does it in the training process.
        image_backend: the library that resizes and normalizes images, pil or torchvision, on every machine alike; their
            pixels differ a little. torchvision must be installed where it is asked for.
        image_processor: settings of the checkpoint's image processor, by their names there, instead of those in its
            files, for example {max_pixels: 1003520} for Qwen-VL or {do_image_splitting: false} for Idefics3.
        pad_to_square: pad a picture to a square with the mean colour before it is resized, as LLaVA-1.5 was trained.
        check_images: how every image is looked at before the run starts: `header` at its header and its end, which
            shows files that were cut; `full` decodes it, and not again while its file stays as it is; `none` leaves bad
            ones to be met later.
        bad_records: what happens where records cannot be used: `error` refuses the run, naming the first of each kind;
            `skip` leaves them out, lists them in the run's bad_records.jsonl and counts them in its results.
        bad_records_most: the most that `skip` may leave out of a split: below 1 a share of its records, rounded up;
            from 1 up their number. More of them refuse the run.
        feature_cache: folder to keep the frozen vision tower's features in, so that an image passes the tower once and
            never again, in this run and in later ones; null for none.
        feature_cache_gb: most gigabytes to add to that folder; null for as many as the disk has.
        seed: what the data order follows from; linked to seed_everything.
        blind: what an evaluation shows in the images' place, to see how much of a score needs them: `blank` shows grey
            pictures of the same sizes, `shuffle` another conversation's images, `drop` none; null shows the images.
        validate_by: what a validation measures: the model's `answers`, the `loss` of the true ones (`val/loss`, which
            takes no generation), or `both`.
        judged_turns: which answers of a conversation `validate` and `test` ask for: those of `every` assistant turn,
            each behind the true turns before it, or the `last`. `predict` answers the last.
    """

    def __init__(
        self,
        model_id: str,
        train: SourceSettings | None = None,
        val: SourceSettings | None = None,
        test: SourceSettings | None = None,
        predict: SourceSettings | None = None,
        revision: str | None = None,
        prompt: str | None = None,
        system: str | None = None,
        effective_batch: int = 16,
        micro_batch: int | Literal["auto"] = 1,
        micro_tokens: int | None = None,
        packing: bool = True,
        questions_per_row: int = 8,
        eval_batch: int = 8,
        max_length: MaxLength = "auto",
        over_length: OverLength = "error",
        num_workers: int = 2,
        image_backend: ImageBackend = IMAGE_BACKEND,
        image_processor: dict[str, ImageSetting] | None = None,
        pad_to_square: bool = False,
        check_images: Literal["header", "full", "none"] = "header",
        bad_records: OnBadRecords = "error",
        bad_records_most: float = 0.05,
        feature_cache: str | None = None,
        feature_cache_gb: float | None = None,
        seed: int = 42,
        blind: Blind | None = None,
        validate_by: ValidateBy = "both",
        judged_turns: JudgedTurns = "every",
    ) -> None:
        super().__init__(
            sources={"train": train, "val": val, "test": test, "predict": predict},
            effective_batch=effective_batch,
            micro_batch=micro_batch,
            eval_batch=eval_batch,
            num_workers=num_workers,
            seed=seed,
        )
        check_sizes(micro_tokens=micro_tokens, questions_per_row=questions_per_row)
        self.model_id, self.revision, self.image_backend = model_id, revision, image_backend
        self.image_settings = ImageSettings(image_processor=image_processor or {}, pad_to_square=pad_to_square)
        self.prompt, self.system = prompt, system
        self.micro_tokens, self.packing, self.questions_per_row = micro_tokens, packing, questions_per_row
        self.max_length, self.over_length = max_length, over_length
        self.check_images = check_images
        self.bad_records = BadRecordSettings(policy=bad_records, most=bad_records_most)
        self.feature_cache, self.feature_cache_gb = feature_cache, feature_cache_gb
        self.blind: Blind | None = blind
        self.validate_by, self.judged_turns = validate_by, judged_turns
        self._open_store: Callable[[], FeatureStore] | None = None
        self._store: FeatureStore | None = None
        self._shortcuts: Shortcuts | None = None
        self._asked: dict[str, TurnItems] = {}
        self._processor: ProcessorMixin | None = None
        self._auto: dict[int, AutoLength] = {}
        self._limits_said: set[int] = set()

    @property
    def processor(self) -> ProcessorMixin:
        """The checkpoint's processor, loaded when first asked for."""
        if self._processor is None:
            self._processor = load_processor(self.model_id, self.revision, self.image_backend, self.image_settings)
        return self._processor

    @property
    def encoder(self) -> ConversationEncoder:
        """Turns conversations into padded batches, in the way the checkpoint's processor calls for."""
        return encoder_of(self.processor)

    def setup(self, stage: str) -> None:
        """Open and check the sources that `stage` (fit, validate, test, predict) needs."""
        check_image_backend(self.image_backend)  # not when made: a budget is for another machine
        if stage == "fit" and self.blind is not None:
            raise ConfigError(
                f"data.blind is {self.blind}, which is for evaluations: a model trains on its images. Leave it out of "
                "fit, and give it to test, validate or predict."
            )
        if self.trainer is not None:
            self._shortcuts = None
        super().setup(stage)

    @property
    def shortcuts(self) -> Shortcuts:
        """What the run's module allows; everything, as long as no module is known."""
        if self.trainer is None or self.trainer.lightning_module is None:
            return Shortcuts()
        if self._shortcuts is None:
            self._shortcuts = shortcuts_of_module(self.trainer.lightning_module)
            if self.packing and self._shortcuts.unpackable is not None:
                rank_zero_info(f"Questions about one image get rows of their own: {self._shortcuts.unpackable}.")
        return self._shortcuts

    @property
    def packs(self) -> bool:
        """Whether questions about one image share a row: asked for, and allowed by the module."""
        return self.packing and self.shortcuts.unpackable is None

    def use_features(self, open_store: Callable[[], FeatureStore]) -> None:
        """Take vision features from a store, which is opened and filled when the first batch is to be made."""
        self._open_store, self._store = open_store, None

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

    def size(self, item: Conversation) -> tuple[int, int]:
        """A conversation's images, and the letters of all it says."""
        return size_of(item)

    def examined(self, split: str) -> ConversationDataset:
        """A split without the records that cannot be used, however many; its `skipped` are these.

        Raises:
            ConfigError: it is a stream.
        """
        source, as_set = self.sources[split], self.bad_records
        assert source is not None
        if source.streaming:
            raise ConfigError(f"data.{split} is streamed, so nobody knows its records ahead. Set streaming to false.")
        self.bad_records = BadRecordSettings(policy="skip", most=None)
        try:
            opened = self.open(split, source)
        finally:
            self.bad_records = as_set
        assert isinstance(opened, ConversationDataset)
        return opened

    def _check_ahead(self, split: str, dataset: ConversationDataset) -> None:
        """Go through all records as the run will use them."""
        loss = split == "val" and self.validate_by != "answers"
        uses = Uses(
            learns=split == "train" or loss,
            asks=split != "train" and (split != "val" or self.validate_by != "loss"),
            judged="last" if split == "predict" else self.judged_turns,
            over_length=self.over_length,
            images=None if self.check_images == "none" else self.check_images,
        )
        settle(dataset, checked_ahead(dataset, self.encoder, uses, self._limit_of), self.bad_records)

    @property
    def together(self) -> int | None:
        """Most conversations of one image that training visits in a row, so that they can share a row."""
        return self.questions_per_row if self.packs else None

    # Batches -----------------------------------------------------------------------------------------------------

    def fitting(self, *splits: str) -> tuple[ConversationEncoder, OverLengthPolicy]:
        """What makes batches of these splits (training's by default), and what happens to conversations too long."""
        encoder, shared = self.encoder, TEXT if self.max_length == "auto" else None
        return encoder, OverLengthPolicy(encoder, self.length_limit(*splits), self.over_length, shared)

    def length_limit(self, *splits: str) -> int | None:
        """Most tokens of a conversation of these open splits, by default of those that `fit` reads; None for any."""
        shown = [most_images(self.datasets[name]) for name in splits or ("train", "val") if name in self.datasets]
        images = max(shown, default=1)
        limit = self._limit_of(images)
        if self.max_length == "auto" and images not in self._limits_said:
            self._limits_said.add(images)
            rank_zero_info(self._auto[images].words)
        return limit

    def _limit_of(self, images: int) -> int | None:
        """Most tokens of a conversation where none has more than so many images."""
        if self.max_length != "auto":
            return self.max_length
        if images not in self._auto:
            self._auto[images] = auto_length(self.processor, images)
        return self._auto[images].limit

    def _stored(self) -> FeatureStore | None:
        """The feature store, filled when first asked for: the model is on its device by then."""
        if self._store is None and self._open_store is not None:
            self._store = self._open_store()
        return self._store

    def collator(self) -> StepCollator:
        """What makes a step batch of conversations."""
        return StepCollator(
            *self.fitting(),
            self.micro_batch,
            packing=self.packs,
            micro_tokens=self.micro_tokens,
            store=self._stored() if self.blind is None else None,
        )

    def asked(self, split: str) -> TurnItems:
        """What an evaluation of a split asks of its conversations, in the file's order."""
        if split not in self._asked:
            dataset = self.indexed(split)
            assert isinstance(dataset, ConversationDataset)
            self._asked[split] = TurnItems(dataset, "last" if split == "predict" else self.judged_turns)
        return self._asked[split]

    def evaluated(self, split: str) -> EvaluatedItems[Conversation]:
        """What is asked, with other images or none where an evaluation is blind."""
        items = self.asked(split)
        return items if self.blind is None else BlindPrompts(items, self.blind, seed=self.seed)

    def evaluation_collator(self, split: str) -> PromptCollator:
        """What makes batches of prompts, and of the true answers where a validation wants their loss."""
        validates = self.validate_by if split == "val" else "answers"
        return PromptCollator(
            *self.fitting(*(() if split == "val" else (split,))),
            packing=self.packs,
            store=self._stored() if self.shortcuts.answers_from_features and self.blind is None else None,
            supervised=self.collator() if validates != "answers" else None,
            asks=validates != "loss",
        )

    def on_before_batch_transfer(
        self, batch: StepBatch | EvaluationBatch | RecordError, dataloader_idx: int
    ) -> StepBatch | EvaluationBatch:
        """Raise what a worker found wrong with a record; blind prompts name again the images they are about."""
        found = super().on_before_batch_transfer(batch, dataloader_idx)
        return name_own_images(found) if isinstance(found, EvaluationBatch) else found
