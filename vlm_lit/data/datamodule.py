"""The data module for conversations: what a config's `data` section says."""

from __future__ import annotations

from typing import Literal

from vlm_lit.data.answers.blind import Blind
from vlm_lit.data.answers.judged_turns import JudgedTurns
from vlm_lit.data.checking.settled import BadRecordSettings, OnBadRecords
from vlm_lit.data.checkpoint.image_settings import ImageSetting, ImageSettings
from vlm_lit.data.checkpoint.processors import IMAGE_BACKEND, ImageBackend
from vlm_lit.data.question_datamodule import QuestionDataModule
from vlm_lit.data.record_datamodule import CheckImages, ValidateBy
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.conversation_encoder import TextLengths
from vlm_lit.data.rows.length_limit import MaxLength
from vlm_lit.data.rows.over_length import OverLength
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.schema import Conversation


class ConversationDataModule(TokenRows[Conversation], QuestionDataModule):
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
        micro_batch: most rows in one forward pass; changes memory and speed, not the result, but for what
            dropout draws. `auto` finds the most that fit by trying the longest rows.
        micro_tokens: most tokens in a forward pass of several rows, padding included; null for no limit.
        packing: let questions about one image share a row, the image encoded once; the same result for the same
            conversations, and the same answers in an evaluation. Plain rows are used where the model does not allow it.
        questions_per_row: most questions that share a row. A step sees fewer different images the more there are.
        eval_batch: most prompts answered together; neighbours in the file that show the same images are not parted.
            From max_new_tokens 32 on up to half as many, whose answers go on, stay beside the next ones.
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
            each behind the true turns before it, or the `last`. `predict` answers the last. An answer that the record
            says is not to be learned judges none.
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
        check_images: CheckImages = "header",
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
            model_id=model_id,
            revision=revision,
            prompt=prompt,
            system=system,
            image_backend=image_backend,
            image_settings=ImageSettings(image_processor=image_processor or {}, pad_to_square=pad_to_square),
            check_images=check_images,
            bad_records=BadRecordSettings(policy=bad_records, most=bad_records_most),
            blind=blind,
            validate_by=validate_by,
            judged_turns=judged_turns,
            micro_tokens=micro_tokens,
            packing=packing,
            questions_per_row=questions_per_row,
            max_length=max_length,
            over_length=over_length,
            feature_cache=feature_cache,
            feature_cache_gb=feature_cache_gb,
        )

    @property
    def text_lengths(self) -> TextLengths:
        """What tells how long the text of a conversation is: what makes its rows."""
        return self.encoder

    def collator(self) -> StepCollator:
        """What makes a step batch of conversations."""
        return self.step_collator()

    def step_collator(self, *splits: str) -> StepCollator:
        """What makes one of conversations of these open splits, by default of those that `fit` reads."""
        return StepCollator(
            *self.fitting(*splits),
            self.micro_batch,
            packing=self.packs,
            micro_tokens=self.micro_tokens,
            store=self.stored() if self.blind is None else None,
        )

    def evaluation_collator(self, split: str) -> PromptCollator:
        """What makes batches of prompts, and of the true answers where a validation wants their loss."""
        validates = self.validate_by if split == "val" else "answers"
        return PromptCollator(
            *self.fitting(*(() if split == "val" else (split,))),
            packing=self.packs,
            store=self.stored() if self.shortcuts.answers_from_features and self.blind is None else None,
            supervised=self.collator() if validates != "answers" else None,
            asks=validates != "loss",
        )
