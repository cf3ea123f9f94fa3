"""The data module of a classifier: questions about one image, and the answers that it chooses from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info
from transformers import ProcessorMixin

from vlm_lit.data.answers.blind import Blind
from vlm_lit.data.answers.coverage import coverage
from vlm_lit.data.answers.judged_turns import TurnItems
from vlm_lit.data.answers.known_answers import KnownAnswers
from vlm_lit.data.answers.targets import AnswerTargets, SoftTargets, targets_of
from vlm_lit.data.answers.vocabulary import AnswerVocabulary
from vlm_lit.data.answers.vocabulary_building import VocabularySettings, build_vocabulary
from vlm_lit.data.checking.given_answers import GivenAnswers, given_answers
from vlm_lit.data.checking.settled import BadRecordSettings, OnBadRecords
from vlm_lit.data.checkpoint.image_settings import ImageSetting, ImageSettings
from vlm_lit.data.checkpoint.processors import IMAGE_BACKEND, ImageBackend, load_processor
from vlm_lit.data.images.rand_augment import AugmentSettings
from vlm_lit.data.question_datamodule import QuestionDataModule
from vlm_lit.data.record_datamodule import CheckImages, ValidateBy
from vlm_lit.data.records.conversation_dataset import ConversationDataset
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.rows.class_collate import ClassCollator, ClassPromptCollator
from vlm_lit.data.rows.class_encoding import MOST_WORDS, ClassEncoder
from vlm_lit.data.step_datamodule import check_sizes
from vlm_lit.errors import ConfigError
from vlm_lit.schema import Conversation
from vlm_lit.settings import as_settings


class ClassifierDataModule(QuestionDataModule):
    """Questions about one image each, whose answers are classes, from JSON, JSONL, Parquet, Arrow or the hub.

    Args:
        model_id: checkpoint whose processor is used; linked to the model's.
        train: what to train on.
        val: what `validate`, and `fit` between epochs, answers.
        test: what `test` answers.
        predict: what `predict` answers; needs no references.
        revision: branch, tag or commit of the checkpoint; linked to the model's.
        vocabulary: the answers that the classifier chooses from; by default all answers of the training part.
        targets: how right each of them is to a training question: `vqa` by the official VQA accuracy, `vilt` by
            ViLT's table (0.3, 0.6, 0.9, 1.0 for one, two, three, four people), `one_hot` for the record's own answer.
        most_words: most tokens of a question; a longer one is cut, and counted as train/over_length_changed.
        augment: random changes of training pictures (RandAugment), for example {operations: 2, colour: false}.
        effective_batch: questions an optimizer step sees, over all ranks.
        micro_batch: most questions in one forward pass; changes memory and speed, not the result, but
            for what dropout draws. `auto` finds the most that fit.
        questions_together: most questions about one image that training visits in a row: its picture is decoded and
            processed once for them, and a step sees fewer different pictures.
        eval_batch: most questions answered together.
        num_workers: processes that decode and tokenize; 0 does it in the training process.
        image_backend: the library that resizes and normalizes images, pil or torchvision.
        image_processor: settings of the checkpoint's image processor instead of those in its files.
        check_images: how every image is looked at before the run starts: `header`, `full` or `none`.
        bad_records: what happens where records cannot be used: `error` refuses the run, `skip` leaves them out.
        bad_records_most: the most that `skip` may leave out of a split: below 1 a share, from 1 up a number.
        seed: what the data order and augmentation follow from; linked to seed_everything.
        blind: what an evaluation shows in the images' place: `blank` shows grey pictures of the same sizes, `shuffle`
            another question's images; null shows the images.
        validate_by: what a validation measures: `answers`, the `loss` of the true ones (`val/loss`), or `both`.
    """

    task = "classify"

    items = "questions"

    def __init__(
        self,
        model_id: str,
        train: SourceSettings | None = None,
        val: SourceSettings | None = None,
        test: SourceSettings | None = None,
        predict: SourceSettings | None = None,
        revision: str | None = None,
        vocabulary: VocabularySettings = VocabularySettings(),  # noqa: B008 - frozen
        targets: SoftTargets = "vqa",
        most_words: int = MOST_WORDS,
        augment: AugmentSettings = AugmentSettings(),  # noqa: B008 - frozen
        effective_batch: int = 64,
        micro_batch: int | Literal["auto"] = 16,
        questions_together: int = 8,
        eval_batch: int = 32,
        num_workers: int = 2,
        image_backend: ImageBackend = IMAGE_BACKEND,
        image_processor: dict[str, ImageSetting] | None = None,
        check_images: CheckImages = "header",
        bad_records: OnBadRecords = "error",
        bad_records_most: float = 0.05,
        seed: int = 42,
        blind: Blind | None = None,
        validate_by: ValidateBy = "both",
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
            prompt=None,
            system=None,
            image_backend=image_backend,
            image_settings=ImageSettings(image_processor=image_processor or {}),
            check_images=check_images,
            bad_records=BadRecordSettings(policy=bad_records, most=bad_records_most),
            blind=blind,
            validate_by=validate_by,
            judged_turns="every",
        )
        check_sizes(most_words=most_words, questions_together=questions_together)
        if blind == "drop":
            raise ConfigError("data.blind is drop, but a classifier needs a picture. Set it to blank or shuffle.")
        self.vocabulary_settings = as_settings(VocabularySettings, vocabulary, "data.vocabulary")
        self.augment = as_settings(AugmentSettings, augment, "data.augment")
        self.targets, self.most_words, self.questions_together = targets, most_words, questions_together
        self._vocabulary: AnswerVocabulary | None = None
        self._answers: dict[str, list[GivenAnswers]] = {}

    @property
    def processor(self) -> ProcessorMixin:
        """The checkpoint's processor, loaded when first asked for."""
        if self._processor is None:
            self._processor = load_processor(
                self.model_id, self.revision, self.image_backend, self.image_settings, turns=False
            )
        return self._processor

    @property
    def encoder(self) -> ClassEncoder:
        """Turns questions and their pictures into the model's inputs."""
        return ClassEncoder(self.processor, self.most_words)

    @property
    def text_lengths(self) -> ClassEncoder:
        """What tells how long a question is, or why it cannot be asked."""
        return self.encoder

    @property
    def together(self) -> int | None:
        """Most questions of one image that training visits in a row."""
        return self.questions_together if self.questions_together > 1 else None

    # Answers -----------------------------------------------------------------------------------------------------

    @property
    def vocabulary(self) -> AnswerVocabulary:
        """The answers to choose from, read from their file or found in the records when first asked for."""
        if self._vocabulary is None:
            self._vocabulary = build_vocabulary(self._counted(), self.vocabulary_settings)
        return self._vocabulary

    def _counted(self) -> Iterator[str | None]:
        """The answers that make the vocabulary."""
        for split in ("train", "val") if self.vocabulary_settings.source == "train_and_val" else ("train",):
            source = self.sources[split]
            if source is None:
                raise ConfigError(
                    f"Which answers can be chosen? data.init_args.{split} is not set, whose answers are to be counted. "
                    "Set it, or data.init_args.vocabulary.file to the answers.json of a run."
                )
            dataset = self.datasets[split] if split in self.datasets else self.open(split, source)
            if not isinstance(dataset, ConversationDataset):
                raise ConfigError(
                    f"data.init_args.{split} is streamed, so its answers are not known ahead. Set "
                    "data.init_args.vocabulary.file to a list of answers, or streaming to false."
                )
            yield from (answer for answer, _ in self._given(split, dataset))

    def _given(self, split: str, dataset: ConversationDataset) -> list[GivenAnswers]:
        """The answers of a split's records, read once."""
        if split not in self._answers:
            self._answers[split] = given_answers(dataset)
        return self._answers[split]

    def setup(self, stage: str) -> None:
        """Open and check the sources that `stage` needs; leave out training questions that no answer is right for."""
        opened = set(self.datasets)
        super().setup(stage)
        for split in self.datasets.keys() - opened:
            dataset = self.datasets[split]
            if split == "predict" or not isinstance(dataset, ConversationDataset):
                continue
            found = coverage(self.vocabulary, (given.references for given in self._given(split, dataset)))
            rank_zero_info(f"{split}: {found.words}")
            if split == "train":
                self._leave_out(dataset)

    def _leave_out(self, train: ConversationDataset) -> None:
        given = self._given("train", train)
        kept = [i for i, (own, people) in enumerate(given) if targets_of(people, own, self.vocabulary, self.targets)]
        left_out = len(train) - len(kept)
        if not kept:
            raise ConfigError(f"No training question has any of the {len(self.vocabulary):,} answers to choose from.")
        if left_out:
            rank_zero_info(f"{left_out:,} of {len(train):,} training questions have none of the answers; not learned.")
            train.keep(kept)

    def known(self, conversation: Conversation) -> bool:
        """Whether some answer of the vocabulary is right for a question."""
        return bool(targets_of(conversation.references, None, self.vocabulary, "vqa"))

    # Batches -----------------------------------------------------------------------------------------------------

    def asked(self, split: str) -> TurnItems:
        """What an evaluation of a split asks, in the file's order."""
        if split not in self._asked:
            dataset = self.indexed(split)
            assert isinstance(dataset, ConversationDataset)
            self._asked[split] = KnownAnswers(dataset, self.known)
        return self._asked[split]

    def collator(self) -> ClassCollator:
        """What makes a step batch of questions."""
        targets = AnswerTargets(self.vocabulary, self.targets)
        return ClassCollator(self.encoder, targets, self.micro_batch, augment=self.augment, seed=self.seed)

    def evaluation_collator(self, split: str) -> ClassPromptCollator:
        """What makes batches of questions to answer, and of their targets where a validation wants their loss."""
        return ClassPromptCollator(
            self.encoder,
            supervised=self.collator() if split == "val" and self.learns("val") else None,
            asks=self.asks(split),
        )

    def course(self) -> dict[str, Any]:
        """What training's batches and their order follow from; a run that goes on must have the same."""
        return {
            **super().course(),
            "targets": self.targets,
            "most_words": self.most_words,
            "augment": dict(vars(self.augment)),
            "questions_together": self.questions_together,
        }
