"""Where do a run's batches come from? Sources, batch sizes and the loaders over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader
from transformers import ProcessorMixin

from vlm_lit.data.blind import Blind, BlindPrompts, name_own_images
from vlm_lit.data.collate import MicroBatch, PromptCollator, WindowCollator
from vlm_lit.data.device import to_device
from vlm_lit.data.encoder_choice import encoder_of
from vlm_lit.data.encoding import ConversationEncoder
from vlm_lit.data.feature_store import FeatureStore
from vlm_lit.data.over_length import OverLength, OverLengthPolicy
from vlm_lit.data.packing import likely_longest, size_of
from vlm_lit.data.processors import load_processor
from vlm_lit.data.prompt_windows import PromptWindows, prompt_windows
from vlm_lit.data.sampler import WindowSampler, steps_per_pass
from vlm_lit.data.sources import ConversationDataset, SourceSettings, StreamedWindows, open_source
from vlm_lit.schema import ConfigError, PromptWindow, RecordError, StepWindow, raised


class ConversationDataModule(LightningDataModule):
    """Image conversations from JSON, JSONL, Parquet, Arrow or the hub.

    Args:
        model_id: checkpoint whose processor is used; linked to the model's.
        train: what to train on.
        val: what `validate`, and `fit` between passes, answers.
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
        max_length: most tokens of a conversation, image tokens included; null for no limit.
        over_length: what happens to a longer one: error, drop, trim_text or shrink_image.
        num_workers: processes that decode and tokenize; 0 does it in the training process.
        check_images: `header` opens every image before training starts, `none` leaves bad ones to be met later.
        feature_cache: folder to keep the frozen vision tower's features in, so that an image passes the tower once and
            never again, in this run and in later ones; null for none.
        feature_cache_gb: most gigabytes to add to that folder; null for as many as the disk has.
        seed: what the data order follows from; linked to seed_everything.
        blind: what an evaluation shows in the images' place, to see how much of a score needs them: `blank` shows grey
            pictures of the same sizes, `shuffle` another conversation's images, `drop` none; null shows the images.
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
        max_length: int | None = 2048,
        over_length: OverLength = "error",
        num_workers: int = 2,
        check_images: Literal["header", "none"] = "header",
        feature_cache: str | None = None,
        feature_cache_gb: float | None = None,
        seed: int = 42,
        blind: Blind | None = None,
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
        self.model_id, self.revision = model_id, revision
        self.sources = {"train": train, "val": val, "test": test, "predict": predict}
        self.prompt, self.system = prompt, system
        self.effective_batch, self.eval_batch = effective_batch, eval_batch
        self.probes_micro_batch, self.micro_tokens = micro_batch == "auto", micro_tokens
        self.micro_batch = MicroBatch(1 if micro_batch == "auto" else micro_batch)
        self.packing, self.questions_per_row = packing, questions_per_row
        self.max_length, self.over_length = max_length, over_length
        self.num_workers, self.check_images, self.seed = num_workers, check_images, seed
        self.feature_cache, self.feature_cache_gb = feature_cache, feature_cache_gb
        self.blind: Blind | None = blind
        self.fill_store: Callable[[], FeatureStore] | None = None
        """Fills and opens the feature store; set by whoever has the tower."""
        self.prompts_from_store = True
        """Whether answers can be generated from stored features; the model's matter as well."""
        self._store: FeatureStore | None = None
        self.datasets: dict[str, ConversationDataset | StreamedWindows] = {}
        self._processor: ProcessorMixin | None = None
        self._start = 0

    @property
    def processor(self) -> ProcessorMixin:
        """The checkpoint's processor, loaded when first asked for."""
        if self._processor is None:
            self._processor = load_processor(self.model_id, self.revision)
        return self._processor

    @property
    def encoder(self) -> ConversationEncoder:
        """Turns conversations into padded batches, in the way the checkpoint's processor calls for."""
        return encoder_of(self.processor)

    def setup(self, stage: str) -> None:
        """Open and check the sources that `stage` (fit, validate, test, predict) needs."""
        if stage == "fit" and self.blind is not None:
            raise ConfigError(
                f"data.blind is {self.blind}, which is for evaluations: a model trains on its images. Leave it out of "
                "fit, and give it to test, validate or predict."
            )
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}[stage]
        for split in needed:
            if split not in self.datasets and self.sources[split] is not None:
                self.datasets[split] = self._open(split)
        if needed[0] not in self.datasets:
            raise ConfigError(f"There is nothing to {stage}: set data.init_args.{needed[0]} to a file or a hub id.")

    def _open(self, split: str) -> ConversationDataset | StreamedWindows:
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
    def steps_per_pass(self) -> int:
        """Optimizer steps in one pass over the training data, after `limit_train_batches`."""
        train = self.datasets["train"]
        if isinstance(train, StreamedWindows):
            raise ConfigError(
                "A streamed data set has no known length: set trainer.max_steps, and val_check_interval in steps."
            )
        return steps_per_pass(len(train), self.effective_batch, getattr(self.trainer, "pass_limit", None))

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run: `max_epochs` passes, or `max_steps` if that is fewer."""
        assert self.trainer is not None
        most = int(self.trainer.max_steps)
        if isinstance(self.datasets["train"], StreamedWindows) and most > 0:
            return most
        passes: int | None = getattr(self.trainer, "passes", None)
        if passes is None or passes < 0:
            return most if most > 0 else self.steps_per_pass
        return min(passes * self.steps_per_pass, most) if most > 0 else passes * self.steps_per_pass

    # Loaders -----------------------------------------------------------------------------------------------------

    def fitting(self) -> tuple[ConversationEncoder, OverLengthPolicy]:
        """What makes batches, and what happens to conversations that are too long for one."""
        encoder = self.encoder
        return encoder, OverLengthPolicy(encoder, self.max_length, self.over_length)

    def train_dataloader(self) -> DataLoader[StepWindow]:
        """One item an optimizer step, from where a resumed run stopped."""
        assert self.trainer is not None
        collator, train = self._collator(), self.datasets["train"]
        rank, world = self.trainer.global_rank, self.trainer.world_size
        if isinstance(train, StreamedWindows):
            windows = train.arranged(self.effective_batch, self.total_steps, self.seed, self._start, rank, world)
            return self._loader(windows, collate_fn=collator, batch_size=None)
        return self._loader(train, collate_fn=collator, batch_sampler=self._sampler(train))

    def _stored(self) -> FeatureStore | None:
        """The feature store, filled when first asked for: the model is on its device by then."""
        if self._store is None and self.fill_store is not None:
            self._store = self.fill_store()
        return self._store

    def _collator(self) -> WindowCollator:
        return WindowCollator(
            *self.fitting(),
            self.micro_batch,
            packing=self.packing,
            micro_tokens=self.micro_tokens,
            store=self._stored(),
        )

    def _sampler(self, train: ConversationDataset) -> WindowSampler:
        assert self.trainer is not None
        return WindowSampler(
            len(train),
            window=self.effective_batch,
            steps=self.total_steps,
            seed=self.seed,
            start=self._start,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            limit=self.steps_per_pass,
            groups=train.image_keys if self.packing else None,
            most=self.questions_per_row,
            mixture=train.mixture,
        )

    def window(self, step: int) -> StepWindow | None:
        """This rank's window of optimizer step `step`, collated here and now; None for a stream, which has passed."""
        train = self.datasets["train"]
        if isinstance(train, StreamedWindows):
            return None
        return raised(self._collator()([train[i] for i in self._sampler(train).indices(step)]))

    def longest_window(self, rows: int) -> StepWindow | None:
        """The `rows` rows that are likely to be longest, as one window; None for a stream, whose rows nobody knows."""
        train = self.datasets["train"]
        if isinstance(train, StreamedWindows):
            return None
        # Their sizes alone are kept: a table's conversations hold their images' bytes.
        sizes = [size_of(train[i]) for i in range(len(train))]
        keys = (train.image_keys if self.packing else None) or [None] * len(train)
        longest = likely_longest(sizes, keys, self.questions_per_row, rows)
        return raised(self._collator()([train[i] for i in longest]))

    def _prompts(self, split: str) -> DataLoader[PromptWindow] | list[DataLoader[PromptWindow]]:
        if split not in self.datasets:
            return []
        assert self.trainer is not None
        dataset = self.datasets[split]
        if isinstance(dataset, StreamedWindows):
            raise ConfigError(
                f"data.{split} is streamed; an evaluation needs every question once, so set streaming to false."
            )
        world, rank = self.trainer.world_size, self.trainer.global_rank
        # None repeated to even the ranks out: answering needs no ranks in step.
        asked = dataset if self.blind is None else BlindPrompts(dataset, self.blind, seed=self.seed)
        keys = asked.image_keys if self.packing else None
        windows = PromptWindows(asked, prompt_windows(len(dataset), keys, self.eval_batch, rank=rank, world=world))
        store = self._stored() if self.prompts_from_store and self.blind is None else None
        collator = PromptCollator(*self.fitting(), packing=self.packing, store=store)
        return self._loader(windows, collate_fn=collator, batch_size=None)

    def val_dataloader(self) -> DataLoader[PromptWindow] | list[DataLoader[PromptWindow]]:
        """Prompts of the validation questions, in file order."""
        return self._prompts("val")

    def test_dataloader(self) -> DataLoader[PromptWindow] | list[DataLoader[PromptWindow]]:
        """Prompts of the test questions, in file order."""
        return self._prompts("test")

    def predict_dataloader(self) -> DataLoader[PromptWindow] | list[DataLoader[PromptWindow]]:
        """Prompts to answer without judging them."""
        return self._prompts("predict")

    def _loader(self, dataset: object, **options: object) -> DataLoader:  # type: ignore[type-arg]
        return DataLoader(
            dataset,  # type: ignore[arg-type]
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=False,
            **options,  # type: ignore[arg-type]
        )

    # Hooks -------------------------------------------------------------------------------------------------------

    def on_before_batch_transfer(
        self, batch: StepWindow | PromptWindow | RecordError, dataloader_idx: int
    ) -> StepWindow | PromptWindow:
        """Raise here, in the training process, what a worker found wrong with a record."""
        if isinstance(batch, RecordError):
            raise batch
        return name_own_images(batch) if isinstance(batch, PromptWindow) else batch

    def transfer_batch_to_device(
        self, batch: StepWindow | PromptWindow, device: torch.device, dataloader_idx: int
    ) -> StepWindow | PromptWindow:
        """Move the tensors, and nothing else, to `device`."""
        for part in batch.micro_batches if isinstance(batch, StepWindow) else batch.batches:
            to_device(part, device)
        return batch

    def state_dict(self) -> dict[str, int]:
        """How many optimizer steps are done: all that the data order needs to go on."""
        assert self.trainer is not None
        return {"step": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on behind the steps that are done."""
        self._start = state_dict["step"]
