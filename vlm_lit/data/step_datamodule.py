"""Base of every data module: items of any kind, a batch of them an optimizer step, and those of evaluations."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from vlm_lit.data.answers.evaluation_batches import EvaluatedItems, EvaluationBatches, arranged, evaluation_batches
from vlm_lit.data.dealing import TOWER, Dealing, ItemCost
from vlm_lit.data.item_costs import item_costs
from vlm_lit.data.loaders import loader
from vlm_lit.data.rank_share import rank_share
from vlm_lit.data.records.record_dataset import Item, RecordDataset
from vlm_lit.data.records.sources import SourceSettings, as_source
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.data.rows.device import to_device
from vlm_lit.data.rows.micro_batch_size import MicroBatchSize
from vlm_lit.data.rows.packing import likely_longest
from vlm_lit.data.run_length import RunLength, length_of, lightning_length, searches_learning_rate
from vlm_lit.data.sampler import EpochSampler, StepSampler
from vlm_lit.errors import ConfigError, RecordError, VlmLitError, check_seed, raised
from vlm_lit.schema import EvaluationBatch, StepBatch


class StepDataModule(LightningDataModule, ABC, Generic[Item]):
    """Sources of items, shared out to optimizer steps, ranks and workers.

    Whoever derives from it says how a source is opened, how long an item is, and what makes batches of items.

    Args:
        sources: for each split its source: settings, a mapping of them, or a path alone; None where there is none.
        effective_batch: items an optimizer step sees, over all ranks.
        micro_batch: most rows in one forward pass; `auto` finds the most that fit.
        eval_batch: most items evaluated together.
        num_workers: processes that make batches; 0 does it in the training process.
        seed: what the data order follows from.
    """

    items = "conversations"
    """What its items are called."""

    def __init__(
        self,
        *,
        sources: Mapping[str, object],
        effective_batch: int,
        micro_batch: int | Literal["auto"],
        eval_batch: int,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        rows = 1 if micro_batch == "auto" else micro_batch
        check_sizes(effective_batch=effective_batch, micro_batch=rows, eval_batch=eval_batch)
        if num_workers < 0:
            raise ConfigError(f"data.num_workers is {num_workers}; it must be at least 0.")
        check_seed(seed, "data.seed")
        self.sources = {split: as_source(given, f"data.{split}") for split, given in sources.items()}
        self.effective_batch, self.eval_batch = effective_batch, eval_batch
        self.probes_micro_batch, self.micro_batch = micro_batch == "auto", MicroBatchSize(rows)
        self._rows = rows  # as all ranks know it; what `micro_batch` says, each may lower for itself
        self.num_workers, self.seed = num_workers, seed
        self.datasets: dict[str, RecordDataset[Item] | StreamedSteps[Item]] = {}
        self._start = 0

    # What a kind of item says ------------------------------------------------------------------------------------

    @abstractmethod
    def open(self, split: str, source: SourceSettings) -> RecordDataset[Item] | StreamedSteps[Item]:
        """Open a split's source and check its records."""

    @abstractmethod
    def size(self, item: Item) -> tuple[int, int]:
        """How many images an item has, and about how long it is besides, in any unit."""

    @property
    def together(self) -> int | None:
        """Most items of one image that training visits in a row; None where each is visited on its own."""
        return None

    @property
    def packs(self) -> bool:
        """Whether items of one image share a row."""
        return False

    @property
    def tower(self) -> float:
        """What the vision tower's work on an image costs, as a share of what its tokens cost."""
        return TOWER

    def costs(self, items: EvaluatedItems[Item]) -> list[ItemCost] | None:
        """What each item of a data set costs, by which ranks share them; None where that is not known."""
        return item_costs(items.sizes, None)

    @abstractmethod
    def collator(self) -> Callable[[Sequence[Item]], StepBatch[Any] | RecordError]:
        """What makes a step batch of a step's items."""

    @abstractmethod
    def evaluated(self, split: str) -> EvaluatedItems[Item]:
        """What an evaluation of a split asks."""

    @abstractmethod
    def evaluation_collator(self, split: str) -> Callable[[Sequence[Item]], EvaluationBatch | RecordError]:
        """What makes a batch of a split's items that are evaluated together."""

    # Data sets ---------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Open and check the sources that `stage` (fit, validate, test, predict) needs."""
        self._start = 0  # an earlier run may have been a resumed one
        if self.trainer is not None:
            # The data is shared out here; Lightning's sampler would repeat conversations to even the ranks out.
            self.trainer._accelerator_connector.use_distributed_sampler = False
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}[stage]
        for split in needed:
            source = self.sources[split]
            if split not in self.datasets and source is not None:
                self.datasets[split] = self.open(split, source)
        if needed[0] not in self.datasets:
            raise ConfigError(f"There is nothing to {stage}: set data.init_args.{needed[0]} to a file or a hub id.")

    # How long the run is -----------------------------------------------------------------------------------------

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch, after `limit_train_batches`."""
        train = self.datasets["train"]
        if isinstance(train, StreamedSteps):
            raise ConfigError(
                "A streamed data set has no known length: set trainer.max_steps, and val_check_interval in steps."
            )
        return self._length.steps_per_epoch(len(train), self.effective_batch)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run: `max_epochs` of data, or `max_steps` if that is fewer or alone."""
        assert self.trainer is not None
        most = int(self.trainer.max_steps)
        if most > 0 and (self._length.epochs is None or isinstance(self.datasets["train"], StreamedSteps)):
            return most
        return self._length.total_steps(self.steps_per_epoch, most)

    @property
    def _length(self) -> RunLength:
        assert self.trainer is not None
        return length_of(self.trainer) or lightning_length(self.trainer)

    # Training ----------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[StepBatch[Any]]:
        """One item an optimizer step, from where a resumed run stopped."""
        assert self.trainer is not None
        collator, train = self.collator(), self.datasets["train"]
        rank, world = rank_share(self.trainer)
        if isinstance(train, StreamedSteps):
            step_batches = train.arranged(self.effective_batch, self.total_steps, self.seed, self._start, rank, world)
            return loader(step_batches, collate_fn=collator, batch_size=None, workers=self.num_workers)
        steps, trainer = self._sampler(train), self.trainer
        if length_of(trainer) is not None:
            return loader(train, collate_fn=collator, batch_sampler=steps, workers=self.num_workers)
        # A module of the user's own under Lightning's Trainer: Lightning counts its epochs.
        epochs = EpochSampler(steps, lambda: trainer.current_epoch, self._start)
        return loader(train, collate_fn=collator, batch_sampler=epochs, workers=self.num_workers)

    def _sampler(self, train: RecordDataset[Item]) -> StepSampler:
        assert self.trainer is not None
        steps = self.total_steps
        groups = train.image_keys if self.together is not None else None
        if searches_learning_rate(self.trainer):  # as many as it asks for, however long the run
            steps = max(self._length.total_steps(self.steps_per_epoch, 0), int(self.trainer.max_steps))
        rank, world = rank_share(self.trainer)
        return StepSampler(
            len(train),
            effective_batch=self.effective_batch,
            steps=steps,
            seed=self.seed,
            start=self._start,
            rank=rank,
            world=world,
            limit=self.steps_per_epoch,
            groups=groups,
            most=self.together or 1,
            repeated=self._length.repeated,
            mixture=train.mixture,
            dealing=None
            if world == 1
            else Dealing(costs=self.costs(train), keys=groups, shared=self.packs, rows=self._rows, tower=self.tower),
        )

    def step_batch(self, step: int) -> StepBatch[Any] | None:
        """This rank's batch of optimizer step `step`, collated here and now; None for a stream, which has passed."""
        train = self.datasets["train"]
        if isinstance(train, StreamedSteps):
            return None
        return raised(self.collator()(train.__getitems__(self._sampler(train).indices(step))))

    def longest_step(self, rows: int) -> StepBatch[Any] | None:
        """The `rows` rows that are likely longest, as one step batch; None for a stream, whose rows nobody knows."""
        train = self.datasets["train"]
        if isinstance(train, StreamedSteps):
            return None
        # Their sizes alone are kept: a table's items hold their images' bytes.
        sizes = [self.size(train[i]) for i in range(len(train))]
        keys = (train.image_keys if self.together is not None else None) or [None] * len(train)
        longest = likely_longest(sizes, keys, self.together or 1, rows)
        return raised(self.collator()([train[i] for i in longest]))

    # Evaluation --------------------------------------------------------------------------------------------------

    def indexed(self, split: str) -> RecordDataset[Item]:
        """A split that is evaluated.

        Raises:
            ConfigError: it is streamed.
        """
        dataset = self.datasets[split]
        if isinstance(dataset, StreamedSteps):
            raise ConfigError(
                f"data.{split} is streamed; an evaluation needs every question once, so set streaming to false."
            )
        return dataset

    def _evaluation(self, split: str) -> DataLoader[EvaluationBatch] | list[DataLoader[EvaluationBatch]]:
        if split not in self.datasets:
            return []
        batches = EvaluationBatches(self.evaluated(split), self.evaluation_positions(split))
        collator = self.evaluation_collator(split)
        return loader(batches, collate_fn=collator, batch_size=None, workers=self.num_workers)

    def evaluation_positions(self, split: str) -> list[list[int]]:
        """This rank's items of an evaluation, a batch at a time; in the file's order where only some are evaluated."""
        assert self.trainer is not None
        items, (rank, world) = self.evaluated(split), rank_share(self.trainer)
        # None repeated to even the ranks out: answering needs no ranks in step.
        keys, costs = items.image_keys if self.together is not None else None, self.costs(items)
        batches = evaluation_batches(len(items), keys, self.eval_batch, rank=rank, world=world, costs=costs)
        # A limit is one of the file's first batches.
        limit = getattr(self.trainer, f"limit_{split}_batches")
        whole = isinstance(limit, float) and limit == 1.0
        return arranged(batches, keys, self.eval_batch, costs) if whole else batches

    def evaluation_batch(self, split: str, positions: Sequence[int]) -> EvaluationBatch:
        """A batch of an evaluation's items, collated here and now."""
        items = self.evaluated(split)
        made = self.on_before_batch_transfer(self.evaluation_collator(split)([items[i] for i in positions]), 0)
        assert isinstance(made, EvaluationBatch)
        return made

    def val_dataloader(self) -> DataLoader[EvaluationBatch] | list[DataLoader[EvaluationBatch]]:
        """The validation items."""
        return self._evaluation("val")

    def test_dataloader(self) -> DataLoader[EvaluationBatch] | list[DataLoader[EvaluationBatch]]:
        """The test items."""
        return self._evaluation("test")

    def predict_dataloader(self) -> DataLoader[EvaluationBatch] | list[DataLoader[EvaluationBatch]]:
        """What to answer without judging it."""
        return self._evaluation("predict")

    def course(self) -> dict[str, Any]:
        """What training's items and their order follow from; a run that goes on must have the same."""
        train = self.datasets["train"]
        return {
            "conversations": None if isinstance(train, StreamedSteps) else len(train),
            "effective_batch": self.effective_batch,
            "total_steps": self.total_steps,
        }

    # Hooks -------------------------------------------------------------------------------------------------------

    def on_before_batch_transfer(
        self, batch: StepBatch[Any] | EvaluationBatch | VlmLitError, dataloader_idx: int
    ) -> StepBatch[Any] | EvaluationBatch:
        """Raise here, in the training process, what a worker found wrong."""
        if isinstance(batch, VlmLitError):
            raise batch
        return batch

    def transfer_batch_to_device(
        self, batch: StepBatch[Any] | EvaluationBatch, device: torch.device, dataloader_idx: int
    ) -> StepBatch[Any] | EvaluationBatch:
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


def check_sizes(**sizes: int | None) -> None:
    """Refuse a number of items or rows that is below 1; None is no limit.

    Raises:
        ConfigError: naming the setting.
    """
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise ConfigError(f"data.{name} is {value}; it must be at least 1.")
