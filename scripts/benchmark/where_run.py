"""One profiled run of a side, for `where.py`: training of ours or TRL's, or ours' answering.

    python scripts/benchmark/where_run.py run.json result.json

The first step warms up, what the second multiplies is counted, the fourth's time is split, and there the run ends.
Counting takes shapes, whose noting makes a step about a tenth longer and 4-bit unpacking much longer. A profile of many
steps takes gigabytes.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import kinds
import ours
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from measuring import Measured
from torch.profiler import ProfilerActivity, profile

from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.commands.process_rules import restrict_imports
from vlm_lit.models.plain_layers import plain_layers
from vlm_lit.schema import StepBatch

_COUNTED, _SPLIT = 2, 4
"""The step whose products are counted, and the one whose time is split."""


class Profiled(Measured):
    """Measurements with profiles of two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Any] = {}
        self._since = 0.0

    def step(self) -> None:
        """A step has ended."""
        super().step()
        done = len(self.ends) - 1
        if self._profile is not None:
            seconds = time.perf_counter() - self._since
            self._profile.stop()
            events = self._profile.events()  # type: ignore[no-untyped-call]
            self.found |= (
                kinds.counts(events) if done == _COUNTED else {"clock": seconds, **kinds.split(events, seconds)}
            )
            self._profile = None
        elif done + 1 in (_COUNTED, _SPLIT):
            shapes = done + 1 == _COUNTED
            self._profile = profile(activities=[ProfilerActivity.CPU], record_shapes=shapes, with_flops=shapes)
            self._profile.start()
            self._since = time.perf_counter()


class WatchAnswers(Callback):
    """Notes the time of every batch of questions."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is loaded."""
        self.measured.begin(pl_module)

    def on_validation_batch_end(self, *_: object, **__: object) -> None:
        """A batch has its answers."""
        self.measured.step()


class Needed(Callback):
    """Counts the pairs of query and key that the profiled step needs, in one head of one layer."""

    pairs = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: StepBatch, batch_idx: int
    ) -> None:
        """A step begins."""
        self.pairs = sum(kinds.seen_pairs(b.inputs, b.segments) for b in batch.micro_batches)


def train_ours(run: dict[str, Any], measured: Profiled, folder: Path) -> None:
    """`fit`, watched."""
    needed = Needed()

    class Watched(VlmLitCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's signature
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks[:0] = [ours.Watch(measured, count_tensors=False), needed]  # type: ignore[attr-defined]
            return trainer

    Watched("fit", ["--config", str(_config(ours.settings(run, folder), folder))])
    measured.found["seen"] = needed.pairs


def answer_ours(run: dict[str, Any], measured: Profiled, folder: Path) -> None:
    """`validate` by answers, watched."""

    class Watched(VlmLitCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's signature
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.insert(0, WatchAnswers(measured))  # type: ignore[attr-defined]
            return trainer

    settings = ours.settings(run, folder)
    data = settings["data"]["init_args"]
    data |= {"val": data.pop("train"), "eval_batch": run["batch"], "validate_by": "answers"}
    settings["model"]["init_args"]["max_new_tokens"] = run["max_new_tokens"]
    Watched("validate", ["--config", str(_config(settings, folder))])


def train_theirs(run: dict[str, Any], measured: Profiled, folder: Path) -> None:
    """TRL's training, watched."""
    import theirs

    ready = theirs.trainer(run, theirs.model(run), folder)
    ready.add_callback(theirs.Watch(measured, count_tensors=False))
    with plain_layers():
        ready.train()


def _config(settings: dict[str, Any], folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def main() -> None:
    """Run and write what was found."""
    run, result = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    restrict_imports()
    measured = Profiled()
    before = kinds.peak()
    made = {"ours": train_ours, "answers": answer_ours}.get(run["side"], train_theirs)
    made(run, measured, result.parent)
    found = measured.found | {"peak_flops": max(before, kinds.peak()), "threads": torch.get_num_threads()}
    result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
