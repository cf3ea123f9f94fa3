"""The data module of a run: its sources, its batch sizes, and the data loaders over them."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule, LightningModule
from lightning.fabric.utilities.seed import pl_worker_init_function
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader
from transformers import ProcessorMixin

from vlm_lit.data.answers.blind import Blind, BlindPrompts, name_own_images
from vlm_lit.data.answers.evaluation_batches import EvaluationBatches, evaluation_batches
from vlm_lit.data.answers.judged_turns import JudgedTurns, TurnItems
from vlm_lit.data.checkpoint.image_settings import ImageSettings
from vlm_lit.data.checkpoint.processors import IMAGE_BACKEND, ImageBackend, check_image_backend, load_processor
from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.records.sources import ConversationDataset, SourceSettings, StreamedSteps, most_images, open_source
from vlm_lit.data.rows.collate import MicroBatch, PromptCollator, StepCollator
from vlm_lit.data.rows.device import to_device
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.encoding import ConversationEncoder
from vlm_lit.data.rows.length_limit import TEXT, AutoLength, MaxLength, auto_length
from vlm_lit.data.rows.over_length import OverLength, OverLengthPolicy
from vlm_lit.data.rows.packing import likely_longest, size_of
from vlm_lit.data.run_length import RunLength, length_of, lightning_length, searches_learning_rate
from vlm_lit.data.sampler import EpochSampler, StepSampler, steps_per_epoch
from vlm_lit.errors import ConfigError, RecordError, raised
from vlm_lit.schema import EvaluationBatch, StepBatch
from vlm_lit.settings import as_settings

ValidateBy = Literal["both", "answers", "loss"]


class ConversationDataModule(LightningDataModule):
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
        check_images: `header` opens every image before training starts, `none` leaves bad ones to be met later.
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
        image_processor: dict[str, Any] | None = None,
        pad_to_square: bool = False,
        check_images: Literal["header", "none"] = "header",
        feature_cache: str | None = None,
        feature_cache_gb: float | None = None,
        seed: int = 42,
        blind: Blind | None = None,
        validate_by: ValidateBy = "both",
        judged_turns: JudgedTurns = "every",
    ) -> None:
        super().__init__()
        for name, value in (
            ("effective_batch", effective_batch),
            ("micro_batch", 1 if micro_batch == "auto" else micro_batch),
            ("micro_tokens", 1 if micro_tokens is None else micro_tokens),
            ("eval_batch", eval_batch),
            ("questions_per_row", questions_per_row),
        ):
            if value < 1:
                raise ConfigError(f"data.{name} is {value}; it must be at least 1.")
        self.model_id, self.revision, self.image_backend = model_id, revision, image_backend
        self.image_settings = ImageSettings(image_processor=image_processor or {}, pad_to_square=pad_to_square)
        given: dict[str, object] = {"train": train, "val": val, "test": test, "predict": predict}
        self.sources = {split: _source(source, f"data.{split}") for split, source in given.items()}
        self.prompt, self.system = prompt, system
        self.effective_batch, self.eval_batch = effective_batch, eval_batch
        self.probes_micro_batch, self.micro_tokens = micro_batch == "auto", micro_tokens
        self.micro_batch = MicroBatch(1 if micro_batch == "auto" else micro_batch)
        self.packing, self.questions_per_row = packing, questions_per_row
        self.max_length, self.over_length = max_length, over_length
        self.num_workers, self.check_images, self.seed = num_workers, check_images, seed
        self.feature_cache, self.feature_cache_gb = feature_cache, feature_cache_gb
        self.blind: Blind | None = blind
        self.validate_by, self.judged_turns = validate_by, judged_turns
        self.fill_store: Callable[[], FeatureStore] | None = None
        """Fills and opens the feature store; set by whoever has the tower."""
        self.prompts_from_store = True
        """Whether answers can be generated from stored features; the model's matter as well."""
        self._store: FeatureStore | None = None
        self.datasets: dict[str, ConversationDataset | StreamedSteps] = {}
        self._asked: dict[str, TurnItems] = {}
        self._processor: ProcessorMixin | None = None
        self._auto: dict[int, AutoLength] = {}
        self._start = 0

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
        self._start = 0  # an earlier run may have been a resumed one
        if self.trainer is not None:
            # The data is shared out here; Lightning's sampler would repeat conversations to even the ranks out.
            self.trainer._accelerator_connector.use_distributed_sampler = False
            self._settle_packing(self.trainer.lightning_module)
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}[stage]
        for split in needed:
            if split not in self.datasets and self.sources[split] is not None:
                self.datasets[split] = self._open(split)
        if needed[0] not in self.datasets:
            raise ConfigError(f"There is nothing to {stage}: set data.init_args.{needed[0]} to a file or a hub id.")

    def _settle_packing(self, module: LightningModule) -> None:
        """Plain rows for a module that would let questions see each other which share one, and word of it."""
        if self.packing and not getattr(module, "takes_shared_rows", False):
            self.packing = False
            rank_zero_info(
                f"Questions about one image get rows of their own: {type(module).__name__} does not say that it keeps "
                "them apart in a shared one, by StepBatch's segments (takes_shared_rows = True)."
            )

    def _open(self, split: str) -> ConversationDataset | StreamedSteps:
        source = self.sources[split]
        assert source is not None
        return open_source(
            source,
            prompt=self.prompt,
            system=self.system,
            requires_answer=split == "train",
            check_images=self.check_images == "header",
        )

    # How long the run is -----------------------------------------------------------------------------------------

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch, after `limit_train_batches`."""
        train = self.datasets["train"]
        if isinstance(train, StreamedSteps):
            raise ConfigError(
                "A streamed data set has no known length: set trainer.max_steps, and val_check_interval in steps."
            )
        return steps_per_epoch(len(train), self.effective_batch, self._length.epoch_limit)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run: `max_epochs` of data, or `max_steps` if that is fewer."""
        assert self.trainer is not None
        most, epochs = int(self.trainer.max_steps), self._length.epochs
        if most > 0 and (epochs is None or isinstance(self.datasets["train"], StreamedSteps)):
            return most
        steps = (epochs or 1) * self.steps_per_epoch
        return min(steps, most) if most > 0 else steps

    @property
    def _length(self) -> RunLength:
        assert self.trainer is not None
        return length_of(self.trainer) or lightning_length(self.trainer)

    # Loaders -----------------------------------------------------------------------------------------------------

    def fitting(self, *splits: str) -> tuple[ConversationEncoder, OverLengthPolicy]:
        """What makes batches of these splits (training's by default), and what happens to conversations too long."""
        encoder, shared = self.encoder, TEXT if self.max_length == "auto" else None
        return encoder, OverLengthPolicy(encoder, self.length_limit(*splits), self.over_length, shared)

    def length_limit(self, *splits: str) -> int | None:
        """Most tokens of a conversation of these open splits, by default of those that `fit` reads; None for any."""
        if self.max_length != "auto":
            return self.max_length
        shown = [most_images(self.datasets[name]) for name in splits or ("train", "val") if name in self.datasets]
        images = max(shown, default=1)
        if images not in self._auto:
            self._auto[images] = auto_length(self.processor, images)
            rank_zero_info(self._auto[images].words)
        return self._auto[images].limit

    def train_dataloader(self) -> DataLoader[StepBatch]:
        """One item an optimizer step, from where a resumed run stopped."""
        assert self.trainer is not None
        collator, train = self._collator(), self.datasets["train"]
        rank, world = self.trainer.global_rank, self.trainer.world_size
        if isinstance(train, StreamedSteps):
            step_batches = train.arranged(self.effective_batch, self.total_steps, self.seed, self._start, rank, world)
            return self._loader(step_batches, collate_fn=collator, batch_size=None)
        steps, trainer = self._sampler(train), self.trainer
        if length_of(trainer) is not None:
            return self._loader(train, collate_fn=collator, batch_sampler=steps)
        # A module of the user's own under Lightning's Trainer: Lightning counts its epochs.
        epochs = EpochSampler(steps, lambda: trainer.current_epoch, self._start)
        return self._loader(train, collate_fn=collator, batch_sampler=epochs)

    def _stored(self) -> FeatureStore | None:
        """The feature store, filled when first asked for: the model is on its device by then."""
        if self._store is None and self.fill_store is not None:
            self._store = self.fill_store()
        return self._store

    def _collator(self) -> StepCollator:
        return StepCollator(
            *self.fitting(),
            self.micro_batch,
            packing=self.packing,
            micro_tokens=self.micro_tokens,
            store=self._stored() if self.blind is None else None,
        )

    def _sampler(self, train: ConversationDataset) -> StepSampler:
        assert self.trainer is not None
        steps = self.total_steps
        if searches_learning_rate(self.trainer):  # as many as it asks for, however long the run
            steps = max((self._length.epochs or 1) * self.steps_per_epoch, int(self.trainer.max_steps))
        return StepSampler(
            len(train),
            effective_batch=self.effective_batch,
            steps=steps,
            seed=self.seed,
            start=self._start,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            limit=self.steps_per_epoch,
            groups=train.image_keys if self.packing else None,
            most=self.questions_per_row,
            repeated=self._length.repeated,
            mixture=train.mixture,
        )

    def step_batch(self, step: int) -> StepBatch | None:
        """This rank's batch of optimizer step `step`, collated here and now; None for a stream, which has passed."""
        train = self.datasets["train"]
        if isinstance(train, StreamedSteps):
            return None
        return raised(self._collator()([train[i] for i in self._sampler(train).indices(step)]))

    def longest_step(self, rows: int) -> StepBatch | None:
        """The `rows` rows that are likely longest, as one step batch; None for a stream, whose rows nobody knows."""
        train = self.datasets["train"]
        if isinstance(train, StreamedSteps):
            return None
        # Their sizes alone are kept: a table's conversations hold their images' bytes.
        sizes = [size_of(train[i]) for i in range(len(train))]
        keys = (train.image_keys if self.packing else None) or [None] * len(train)
        longest = likely_longest(sizes, keys, self.questions_per_row, rows)
        return raised(self._collator()([train[i] for i in longest]))

    def asked(self, split: str) -> TurnItems:
        """What an evaluation of a split asks, in the file's order."""
        if split not in self._asked:
            dataset = self.datasets[split]
            if isinstance(dataset, StreamedSteps):
                raise ConfigError(
                    f"data.{split} is streamed; an evaluation needs every question once, so set streaming to false."
                )
            self._asked[split] = TurnItems(dataset, "last" if split == "predict" else self.judged_turns)
        return self._asked[split]

    def _prompts(self, split: str) -> DataLoader[EvaluationBatch] | list[DataLoader[EvaluationBatch]]:
        if split not in self.datasets:
            return []
        assert self.trainer is not None
        items = self.asked(split)
        world, rank = self.trainer.world_size, self.trainer.global_rank
        # None repeated to even the ranks out: answering needs no ranks in step.
        shown = items if self.blind is None else BlindPrompts(items, self.blind, seed=self.seed)
        keys = shown.image_keys if self.packing else None
        batches = evaluation_batches(len(items), keys, self.eval_batch, rank=rank, world=world)
        validates = self.validate_by if split == "val" else "answers"
        collator = PromptCollator(
            *self.fitting(*(() if split == "val" else (split,))),
            packing=self.packing,
            store=self._stored() if self.prompts_from_store and self.blind is None else None,
            supervised=self._collator() if validates != "answers" else None,
            asks=validates != "loss",
        )
        return self._loader(EvaluationBatches(shown, batches), collate_fn=collator, batch_size=None)

    def val_dataloader(self) -> DataLoader[EvaluationBatch] | list[DataLoader[EvaluationBatch]]:
        """Prompts of the validation questions, in file order."""
        return self._prompts("val")

    def test_dataloader(self) -> DataLoader[EvaluationBatch] | list[DataLoader[EvaluationBatch]]:
        """Prompts of the test questions, in file order."""
        return self._prompts("test")

    def predict_dataloader(self) -> DataLoader[EvaluationBatch] | list[DataLoader[EvaluationBatch]]:
        """Prompts to answer without judging them."""
        return self._prompts("predict")

    def _loader(self, dataset: object, **options: object) -> DataLoader:  # type: ignore[type-arg]
        return DataLoader(
            dataset,  # type: ignore[arg-type]
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=False,
            worker_init_fn=_begin_worker,
            **options,  # type: ignore[arg-type]
        )

    # Hooks -------------------------------------------------------------------------------------------------------

    def on_before_batch_transfer(
        self, batch: StepBatch | EvaluationBatch | RecordError, dataloader_idx: int
    ) -> StepBatch | EvaluationBatch:
        """Raise here, in the training process, what a worker found wrong with a record."""
        if isinstance(batch, RecordError):
            raise batch
        return name_own_images(batch) if isinstance(batch, EvaluationBatch) else batch

    def transfer_batch_to_device(
        self, batch: StepBatch | EvaluationBatch, device: torch.device, dataloader_idx: int
    ) -> StepBatch | EvaluationBatch:
        """Move the tensors, and nothing else, to `device`."""
        if isinstance(batch, EvaluationBatch) and batch.supervised is not None:
            self.transfer_batch_to_device(batch.supervised, device, dataloader_idx)
        for part in batch.micro_batches if isinstance(batch, StepBatch) else batch.batches:
            to_device(part, device)
        return batch

    def state_dict(self) -> dict[str, int]:
        """How many optimizer steps are done: all that the data order needs to go on."""
        assert self.trainer is not None
        if length_of(self.trainer) is None:  # a module of the user's own may step when it likes
            done: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
            return {"step": done.processed}
        return {"step": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on behind the steps that are done."""
        self._start = state_dict["step"]
        # Lightning looks at the loader alone, which begins at that step.
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")


def _source(given: object, name: str) -> SourceSettings | None:
    """A source as it is given in Python: settings, a mapping of them, or a path alone."""
    if isinstance(given, (str, Path)):
        return SourceSettings(path=str(given))
    return as_settings(SourceSettings, given, name) if given is not None else None


def _begin_worker(worker: int) -> None:
    """Leave Ctrl-C, which a terminal sends to every process of a run, to the one that trains: it still needs data."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pl_worker_init_function(worker)  # Lightning gives its own only where there is none
