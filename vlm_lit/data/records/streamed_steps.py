"""Step batches of items made from a stream of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Generic

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import IterableDataset, get_worker_info

from vlm_lit.data.of_step import OfStep
from vlm_lit.data.records.findings import Findings
from vlm_lit.data.records.record_dataset import Item
from vlm_lit.data.sampler import derive_seed
from vlm_lit.errors import ConfigError
from vlm_lit.schema import Record

_SHUFFLE_BUFFER: Final = 1000


class StreamedSteps(IterableDataset[list[Item]], Generic[Item]):
    """Step batches read from a stream, shuffled within a buffer. The order follows from the seed alone.

    Every rank and worker goes through the whole stream. A record is read by the one that makes its item, where its
    fields may wait on disk for that (see `stream_records`), and none is read of the steps that a resumed run has done.

    Args:
        records: begins the stream, from its first record each time.
        read: makes a record's item.
        name: how messages call the source.
    """

    def __init__(self, records: Callable[[], Iterable[Record]], read: Callable[[Record], Item], *, name: str) -> None:
        self.records, self.read, self.name = records, read, name
        self.effective_batch = self.steps = self.seed = self.start = self.rank = 0
        self.world = 1

    def arranged(
        self, effective_batch: int, steps: int, seed: int, start: int, rank: int, world: int
    ) -> StreamedSteps[Item]:
        """The same stream cut into step batches for one rank; see `StepSampler` for the arguments."""
        self.effective_batch, self.steps, self.seed = effective_batch, steps, seed
        self.start, self.rank, self.world = start, rank, world
        return self

    def __iter__(self) -> Iterator[list[Item]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        for step, records in enumerate(islice(self._step_batches(), self.steps)):
            if step == self.start and worker == self.rank == 0:
                self._say_findings(records)
            # A loader takes from its workers in turn, so worker w must give the step batches w, w + workers, ...
            if step >= self.start and (step - self.start) % workers == worker:
                yield OfStep((self.read(record) for record in records[self.rank :: self.world]), step)

    def _say_findings(self, records: Sequence[Record]) -> None:
        """Say what is not used of the first records; nobody has looked at them before."""
        findings = Findings(source=self.name)
        for record in records:
            findings.add(self.read(record))
        for line in findings.lines():
            rank_zero_info(line)

    def _step_batches(self) -> Iterator[list[Record]]:
        records: list[Record] = []
        for record in self._endless():
            records.append(record)
            if len(records) == self.effective_batch:
                yield records
                records = []

    def _endless(self) -> Iterator[Record]:
        epoch = 0
        while True:
            empty = True
            for record in _shuffled(iter(self.records()), derive_seed("stream", self.seed, epoch)):
                empty = False
                yield record
            if empty:
                raise ConfigError(f"{self.name} holds no record.")
            epoch += 1


def _shuffled(records: Iterator[Record], seed: int) -> Iterator[Record]:
    generator, buffer = torch.Generator().manual_seed(seed), list[Record]()
    for record in records:
        if len(buffer) < _SHUFFLE_BUFFER:
            buffer.append(record)
            continue
        at = int(torch.randint(len(buffer), (1,), generator=generator))
        buffer[at], record = record, buffer[at]
        yield record
    for at in torch.randperm(len(buffer), generator=generator).tolist():
        yield buffer[at]
