"""One side of the GPU check on the device, from one row a forward pass to the most that fit; or our answers.

    python scripts/benchmark/gpu_sides.py ours|trl|answers run.json result.json

The result is written anew after every micro-batch, so that what was measured is there when the side is stopped.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

import ours
import theirs
import torch
import yaml
from gpu_kernels import Kernels
from gpu_split import Split
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from transformers import PreTrainedModel, TrainerCallback

from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.commands.process_rules import restrict_imports
from vlm_lit.files.whole import write_whole
from vlm_lit.models.families import Family, family_of, owner_of
from vlm_lit.models.parts import parameter_count
from vlm_lit.models.plain_layers import plain_layers
from vlm_lit.schema import EvaluationBatch, StepBatch
from vlm_lit.training.memory import is_out_of_memory
from vlm_lit.training.module import VisionLanguageModule

STEPS: Final = ("warm", "timed", "split", "kernels")
"""What the steps with one micro-batch are for; kernels are noted with one row and with the most."""


class Stages:
    """Figures of each micro-batch tried: speed from one step, the split from another.

    Args:
        base: the model without a PEFT shell.
        family: where its parts are.
        most: rows of the last micro-batch.
        file: where figures are written after every micro-batch.
    """

    def __init__(self, base: nn.Module, family: Family, *, most: int, file: Path) -> None:
        self.most, self.file = most, file
        self.kernels = Kernels()
        self.split = Split(base, family)
        self.linear = {part: _linear_parameters(base, family, part) for part in ("vision_tower", "language_model")}
        self.found: list[dict[str, Any]] = []
        self.loaded, self._step, self._began = 0, 0, 0.0

    def begin(self, rows: int) -> None:
        """The next steps take `rows` rows a forward pass."""
        if self._step == 0 and not self.found:
            self.loaded = memory(peak=False)
        self._forget_peak()
        self.found.append({"micro_batch": rows})
        self._step, self._began = 0, now()

    def step(self, samples: int, tokens: int) -> bool:
        """A step is over; true once the micro-batch has had all its steps."""
        if STEPS[self._step] == "timed":
            self._speed(samples, tokens)
        if STEPS[self._step] == "split":
            self.split.mark("rest")
            self.split.on = False
            self.found[-1]["shares"] = self.split.shares()
        if STEPS[self._step] == "kernels":
            self.found[-1]["kernels"] = self.kernels.stop(now() - self._began)
        self._step += 1
        if self._step == self.steps_with(self.found[-1]["micro_batch"]):
            self.write()
            return True
        self.split.start()
        self.split.on = STEPS[self._step] == "split"
        if STEPS[self._step] == "kernels":
            self.kernels.start()
        self._began = now()
        return False

    def steps_with(self, rows: int) -> int:
        """How many steps a micro-batch of so many rows has."""
        return len(STEPS) if rows in (1, self.most) else len(STEPS) - 1

    def write(self) -> None:
        """Keep what was found so far; at any moment the time may be over and the process killed."""
        write_whole(self.file, json.dumps(self.result()))

    def _forget_peak(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def _speed(self, samples: int, tokens: int) -> None:
        seconds, positions = now() - self._began, self.split.positions
        self.found[-1] |= {
            "samples_per_second": samples / seconds,
            "tokens_per_second": positions["language_model"] / seconds,
            "conversation_tokens_per_second": tokens / seconds if tokens else None,
            "tflops": self._operations() / seconds / 1e12,
            "peak_bytes": memory(peak=True),
        }

    def _operations(self) -> float:
        """Of the linear layers: forward through the frozen tower; forward and the inputs' gradients in the language
        model, whose weights have none. What is computed twice to save memory counts once."""
        vision = 2 * self.linear["vision_tower"] * self.split.positions["vision"]
        return vision + 4 * self.linear["language_model"] * self.split.positions["language_model"]

    def again(self) -> None:
        """The step that is over does not count."""
        self.split.start()
        self.split.on = False
        self._began = now()

    def drop(self) -> None:
        """The last micro-batch did not fit."""
        self.found.pop()

    def result(self) -> dict[str, Any]:
        """For JSON."""
        return {"loaded_bytes": self.loaded, "linear_parameters": self.linear, "micro_batches": self.found}


def now() -> float:
    """The clock's seconds, the device waited for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _linear_parameters(base: nn.Module, family: Family, part: str) -> int:
    owned = ((name, p) for name, p in base.named_parameters() if owner_of(name, family) == part)
    layers = [(n, p) for n, p in owned if "lora_" not in n and "embed" not in n]
    return sum(parameter_count(p) for n, p in layers if p.dim() > 1)


def memory(*, peak: bool) -> int:
    """Bytes allocated on the GPU, or resident here where there is none; there the peak is the process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Stepper(Callback):
    """Doubles our micro-batch while a run is going on, until it does not fit, or `most` rows are reached."""

    def __init__(self, most: int, file: Path) -> None:
        self.most, self.file, self.rows, self.stages = most, file, 1, None

    stages: Stages | None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with one row."""
        assert isinstance(pl_module, VisionLanguageModule)
        assert pl_module.family is not None
        self.stages = Stages(pl_module.base, pl_module.family, most=self.most, file=self.file)
        self.stages.begin(1)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: StepBatch, batch_idx: int
    ) -> None:
        """The step's data has come."""
        assert self.stages is not None
        self.stages.split.mark("data")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: StepBatch, batch_idx: int
    ) -> None:
        """A step is over; perhaps so is the micro-batch."""
        assert isinstance(pl_module, VisionLanguageModule)
        assert self.stages is not None
        if pl_module.data.micro_batch.rows < self.rows:  # the product has halved it: memory ran out
            self.stages.drop()
            trainer.should_stop = True
        elif batch.rows < self.rows:
            self.stages.again()  # a worker had made this step before the micro-batch grew
        elif self.stages.step(len(batch.ids), sum(n for b in batch.micro_batches for n in b.lengths)):
            self._double(trainer, pl_module)

    def _double(self, trainer: Trainer, module: VisionLanguageModule) -> None:
        assert self.stages is not None
        if 2 * self.rows > self.most:
            trainer.should_stop = True
            return
        self.rows *= 2
        module.data.micro_batch.rows = self.rows
        self.stages.begin(self.rows)


def _watched(verb: str, settings: dict[str, Any], result: Path, callback: Callback) -> None:
    """A verb of ours with one more callback, before all others."""
    config = result.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")

    class Watched(VlmLitCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's signature
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.insert(0, callback)  # type: ignore[attr-defined]
            return trainer

    restrict_imports()
    Watched(verb, ["--config", str(config)])


def run_ours(run: dict[str, Any], result: Path) -> dict[str, Any]:
    """A `fit` whose micro-batch grows."""
    stepper = Stepper(run["most_rows"], result)
    _watched("fit", ours.settings(run, result.parent), result, stepper)
    assert stepper.stages is not None
    return stepper.stages.result()


class Watch(TrainerCallback):  # type: ignore[misc]
    """Tells the stages when TRL's steps begin and end."""

    def __init__(self, stages: Stages, samples: int) -> None:
        self.stages, self.samples = stages, samples

    def on_step_begin(self, *_: object, **__: object) -> None:
        """The step's data has come."""
        self.stages.split.mark("data")

    def on_step_end(self, *_: object, **__: object) -> None:
        """A step is over."""
        self.stages.step(self.samples, 0)


def run_trl(run: dict[str, Any], result: Path) -> dict[str, Any]:
    """TRL's trainer again and again on one model, its batch doubled each time."""
    made = theirs.model(run)
    base = made.get_base_model()
    assert isinstance(base, PreTrainedModel)
    most = 2 ** ((run["most_rows"] * run["questions"]).bit_length() - 1)  # our rows hold so many conversations
    stages = Stages(base, family_of(base.config.model_type), most=most, file=result)
    rows = 1
    while rows <= most:
        stages.begin(rows)
        if not _fits(run, made, stages, rows, result.parent):
            stages.drop()
            break
        rows *= 2
    return stages.result()


def _fits(run: dict[str, Any], made: Any, stages: Stages, rows: int, folder: Path) -> bool:  # noqa: ANN401 - PEFT's
    batch = rows * -(-run["batch"] // (4 * rows))  # a step need not be as long as ours
    every = [row for step in run["steps"] for row in step]
    steps = [every[k * batch : (k + 1) * batch] for k in range(stages.steps_with(rows))]
    ready = theirs.trainer({**run, "micro_batch": rows, "batch": batch, "steps": steps}, made, folder)
    ready.add_callback(Watch(stages, batch))
    try:
        with plain_layers():
            ready.train()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        made.zero_grad(set_to_none=True)
        return False
    return True


class Answering(Callback):
    """Notes how long a test takes, and what the device does in the batches behind the first."""

    def __init__(self) -> None:
        self.kernels, self.found = Kernels(), dict[str, Any]()
        self._began = self._kernels_began = 0.0
        self._asked = self._first = 0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is loaded."""
        self._began = now()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: EvaluationBatch, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Answers were said, or are being said."""
        self._asked += len(batch.ids)
        if batch_idx == 0:  # warm
            self._began, self._first = now(), self._asked
        if batch_idx == 1 and trainer.num_test_batches[0] > 2:
            self._kernels_began = now()
            self.kernels.start()
        if batch_idx == 2:
            self.found["kernels"] = self.kernels.stop(now() - self._kernels_began)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All are answered."""
        seconds = now() - self._began
        self.found |= {"questions_per_second": (self._asked - self._first) / seconds, "peak_bytes": memory(peak=True)}


def run_answers(run: dict[str, Any], result: Path) -> dict[str, Any]:
    """A `test` of the untrained model, whose answers go on to the longest that is allowed."""
    settings = ours.settings(run, result.parent)
    settings["data"]["init_args"] |= {"test": {"path": run["train"]}, "eval_batch": run["eval_batch"]}
    settings["model"]["init_args"]["max_new_tokens"] = run["max_new_tokens"]
    answering = Answering()
    _watched("test", settings, result, answering)
    return {**answering.found, "eval_batch": run["eval_batch"], "max_new_tokens": run["max_new_tokens"]}


SIDES: Final = {"ours": run_ours, "trl": run_trl, "answers": run_answers}


def main() -> None:
    """Run one side and write what was measured."""
    side, asked, result = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    found = SIDES[side](json.loads(asked.read_text()), result)
    write_whole(result, json.dumps(found))


if __name__ == "__main__":
    main()
