"""Tests of a data module for another kind of item than conversations: what a new kind has to say, and no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import lightning
import pytest
import torch
from torch import Tensor, nn

from tests.support.plain_runs import quiet_trainer
from vlm_lit.data.answers.evaluation_batches import EvaluatedItems
from vlm_lit.data.records.examining import examine
from vlm_lit.data.records.record_dataset import RecordDataset
from vlm_lit.data.records.sources import SourceSettings, name_of, read_source, stream_source
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.data.step_datamodule import StepDataModule
from vlm_lit.errors import ConfigError, RecordError, raised
from vlm_lit.schema import EvaluationBatch, ImageRef, MicroBatch, Note, PromptBatch, Record, StepBatch


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """An item without words: numbers and what follows from them."""

    id: str
    numbers: tuple[float, ...]
    target: float
    images: tuple[ImageRef, ...] = ()
    file: Path | str = ""
    record: str = ""
    notes: tuple[Note, ...] = ()


def measurement(record: Record) -> Measurement:
    numbers, target = record.fields.get("numbers"), record.fields.get("target")
    if not isinstance(numbers, list) or not isinstance(target, int | float):
        raise RecordError("no numbers", remedy="Give numbers and a target.", file=record.file, record=record.name)
    where = {"file": record.file, "record": record.name}
    return Measurement(id=str(record.fields["id"]), numbers=tuple(numbers), target=float(target), **where)  # type: ignore[arg-type]


@dataclass(kw_only=True)
class MeasurementBatch(MicroBatch):
    """B measurements: `inputs` x [B, 2], `targets` [B] as a list of one tensor."""

    targets: list[Tensor] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """Measurements."""
        return len(self.ids)


def collate(size: Callable[[], int], items: Sequence[Measurement]) -> StepBatch[MeasurementBatch]:
    parts = [items[at : at + size()] for at in range(0, len(items), size())]
    batches = [
        MeasurementBatch(
            inputs={"x": torch.tensor([item.numbers for item in part])},
            ids=[item.id for item in part],
            targets=[torch.tensor([item.target for item in part])],
        )
        for part in parts
    ]
    return StepBatch(micro_batches=batches, weight=sum(batch.weight for batch in batches), rows=size())


def asked(items: Sequence[Measurement]) -> EvaluationBatch:
    inputs = {"x": torch.tensor([item.numbers for item in items])}
    return EvaluationBatch(batches=[PromptBatch(inputs=inputs, conversations=[])], ids=[item.id for item in items])


class MeasurementDataModule(StepDataModule[Measurement]):
    """Measurements from the files that any source takes."""

    def __init__(
        self, train: str | SourceSettings, val: str | None = None, micro_batch: int = 2, workers: int = 0
    ) -> None:
        super().__init__(
            sources={"train": train, "val": val},
            effective_batch=4,
            micro_batch=micro_batch,
            eval_batch=4,
            num_workers=workers,
            seed=3,
        )

    def open(self, split: str, source: SourceSettings) -> RecordDataset[Measurement] | StreamedSteps[Measurement]:
        if source.streaming:
            return StreamedSteps(partial(stream_source, source), measurement, name=name_of(source))
        dataset = RecordDataset(read_source(source), measurement, name=name_of(source))
        examine(dataset, source, training=split == "train", images=True)
        return dataset

    def size(self, item: Measurement) -> tuple[int, int]:
        return 0, len(item.numbers)

    def collator(self) -> Callable[[Sequence[Measurement]], StepBatch[MeasurementBatch]]:
        return partial(collate, lambda: self.micro_batch.rows)

    def evaluated(self, split: str) -> EvaluatedItems[Measurement]:
        return self.indexed(split)

    def evaluation_collator(self, split: str) -> Callable[[Sequence[Measurement]], EvaluationBatch | RecordError]:
        return asked


class Regression(lightning.LightningModule):
    """A line fitted to measurements, a batch a step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line, self.seen, self.losses = nn.Linear(2, 1), list[list[str]](), list[float]()
        self.asked: list[list[str]] = []

    def training_step(self, step: StepBatch[MeasurementBatch], batch_idx: int) -> Tensor:
        self.seen.append(step.ids)
        parts = [((self.line(b.inputs["x"])[:, 0] - b.targets[0]) ** 2).sum() for b in step.micro_batches]
        loss = torch.stack(parts).sum() / step.weight
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        self.asked += [batch.ids] if self.line(batch.batches[0].inputs["x"]).isfinite().all() else []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "measured.jsonl"
    rows = [{"id": f"m{k}", "numbers": [k / 10, 1 - k / 5], "target": k / 10} for k in range(10)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


# The line is that of one device, and its data are read by one process or by none beside it.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def trained(data: StepDataModule[Measurement], folder: Path, **options: object) -> Regression:
    module = Regression()
    if data.sources["val"] is None:
        options["limit_val_batches"] = 0
    quiet_trainer(folder, logger=False, enable_checkpointing=False, **options).fit(module, data)
    return module


def test_items_of_another_kind_are_trained_on(file: Path, tmp_path: Path) -> None:
    module = trained(MeasurementDataModule(str(file), val=str(file)), tmp_path, max_epochs=2, num_sanity_val_steps=0)
    assert [len(ids) for ids in module.seen] == [4, 4, 2] * 2
    for epoch in (module.seen[:3], module.seen[3:]):
        assert sorted(name for ids in epoch for name in ids) == [f"m{k}" for k in range(10)]
    assert module.seen[:3] != module.seen[3:]
    assert module.asked == [[f"m{k}" for k in range(at, min(at + 4, 10))] for at in (0, 4, 8)] * 2
    again = trained(MeasurementDataModule(str(file), micro_batch=4, workers=1), tmp_path, max_epochs=2)
    assert again.seen == module.seen
    assert again.losses == pytest.approx(module.losses, rel=1e-6)


def test_a_stream_of_items_has_steps_too(file: Path, tmp_path: Path) -> None:
    source = SourceSettings(path=str(file), streaming=True)
    module = trained(MeasurementDataModule(source), tmp_path, max_steps=4, max_epochs=-1)
    assert [len(ids) for ids in module.seen] == [4] * 4


def test_its_records_are_examined_like_any(file: Path) -> None:
    file.write_text(file.read_text() + '\n{"id": "m3", "numbers": [0, 0], "target": 1}')
    data = MeasurementDataModule(str(file))
    data.setup("fit")
    train = data.indexed("train")
    assert (len(train), train.renamed, train[10].id) == (11, {10: "m3#2"}, "m3#2")
    assert train.findings.records == 11
    file.write_text(file.read_text() + '\n{"id": "m11"}')
    with pytest.raises(RecordError, match=r"measured\.jsonl.*no numbers"):
        MeasurementDataModule(str(file)).setup("fit")


def test_the_longest_step_and_any_step_are_made_here_and_now(file: Path, tmp_path: Path) -> None:
    data = MeasurementDataModule(str(file))
    module = trained(data, tmp_path)
    for step, ids in enumerate(module.seen):
        made = data.step_batch(step)
        assert made is not None
        assert made.ids == ids
    longest = data.longest_step(3)
    assert longest is not None
    assert (len(longest.ids), longest.weight) == (3, 3)


def test_every_tensor_of_a_batch_is_moved(file: Path) -> None:
    data = MeasurementDataModule(str(file))
    data.setup("fit")
    made = raised(data.collator()([data.indexed("train")[i] for i in range(3)]))
    data.transfer_batch_to_device(made, torch.device("meta"), 0)
    batch = made.micro_batches[0]
    assert batch.inputs["x"].device.type == batch.targets[0].device.type == "meta"
    assert batch.ids == ["m0", "m1"]


def test_an_evaluation_of_a_stream_is_refused(file: Path) -> None:
    data = MeasurementDataModule(SourceSettings(path=str(file), streaming=True))
    data.setup("fit")
    with pytest.raises(ConfigError, match="train is streamed"):
        data.indexed("train")
