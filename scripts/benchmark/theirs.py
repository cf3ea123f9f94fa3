"""One run of TRL in the benchmark: its SFTTrainer and collator, on the model and rows that ours trains on.

    python scripts/benchmark/theirs.py run.json result.json

The model comes from our loader, so both sides train the same 4-bit weights and the same initial adapter, with the
AVX512-BF16 path of bitsandbytes off (it makes gradients wrong). Everything after that is TRL's own, the layers of
transformers and PEFT included: those of ours are put aside.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Image, List, Value
from measuring import Measured
from peft import PeftModel
from torch import nn
from transformers import TrainerCallback

from vlm_lit.data.checkpoint.processors import load_processor
from vlm_lit.models.adapters import attach_adapters
from vlm_lit.models.loading import load_base
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.plain_layers import plain_layers
from vlm_lit.models.quantization import QuantizationSettings


class Watch(TrainerCallback):  # type: ignore[misc]
    """Notes time, memory and loss of every step."""

    def __init__(self, measured: Measured, *, count_tensors: bool) -> None:
        self.measured, self.count_tensors = measured, count_tensors

    def on_train_begin(self, args: object, state: object, control: object, model: nn.Module, **_: object) -> None:
        """Everything is loaded."""
        self.measured.begin(model, count_tensors=self.count_tensors)

    def on_step_end(self, *_: object, **__: object) -> None:
        """A step is over."""
        self.measured.step()

    def on_log(self, args: object, state: object, control: object, logs: dict[str, Any], **_: object) -> None:
        """The loss of the step before; the last log is a summary without one."""
        if "loss" in logs:
            self.measured.losses.append(float(logs["loss"]))


def dataset(steps: list[list[dict[str, Any]]], root: Path) -> Dataset:
    """The rows in TRL's form, in the order in which they are to be seen; pictures are decoded when asked for."""
    rows = [_row(row, root) for step in steps for row in step]
    turn = {"role": Value("string"), "content": Value("string")}
    return Dataset.from_list(rows, features=Features({"messages": List(turn), "images": List(Image())}))


def _row(row: dict[str, Any], root: Path) -> dict[str, Any]:
    question, answer = (turn["value"].removeprefix("<image>\n") for turn in row["conversations"])
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "images": [str(root / row["image"])]}


def model(run: dict[str, Any]) -> PeftModel:
    """The model as ours has it."""
    parts = PartsSettings(**{name: PartSettings(**part) for name, part in run["parts"].items()})
    base, family = load_base(
        run["checkpoint"],
        parts=parts,
        quantization=QuantizationSettings(compute_dtype=run["compute"]),
        device=torch.device(run["device"]),
    )
    return attach_adapters(base, family, parts, LoraSettings(**run["lora"]), seed=run["seed"])


def trainer(run: dict[str, Any], made: PeftModel, folder: Path) -> Any:  # noqa: ANN401 - TRL need not be installed
    """TRL's trainer, with what it does by default wherever that is faster."""
    from trl import (  # type: ignore[import-not-found,import-untyped,attr-defined,unused-ignore]
        SFTConfig,
        SFTTrainer,
    )

    choose_head(run)
    settings = SFTConfig(**training_arguments(run, folder), assistant_only_loss=True)
    kept = trained_values(made)
    rows = dataset(run["steps"], Path(run["train"]).parent)
    ready = SFTTrainer(made, settings, train_dataset=rows, processing_class=load_processor(run["checkpoint"]))
    put_back(made, kept)
    return ready


def training_arguments(run: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a run asks of any of TRL's trainers."""
    return {
        "output_dir": str(folder / "trl"),
        "per_device_train_batch_size": run["micro_batch"],
        "gradient_accumulation_steps": run["batch"] // run["micro_batch"],
        "max_steps": len(run["steps"]),
        "learning_rate": run["learning_rate"],
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "max_length": None,
        "gradient_checkpointing": run["checkpointing"],
        "bf16": run["autocast"],
        "use_cpu": run["device"] == "cpu",
        "train_sampling_strategy": "sequential",
        "dataloader_num_workers": run["data"].get("num_workers", 0),
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": run["seed"],
    }


def trained_values(made: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of what is trained."""
    return {name: p.detach().clone() for name, p in made.named_parameters() if p.requires_grad}


def put_back(made: nn.Module, kept: dict[str, torch.Tensor]) -> None:
    """Give trained parameters their values as ours has them.

    TRL rounds the adapter of a 4-bit model to bfloat16; ours trains in float32, and so shall this.
    """
    parameters = dict(made.named_parameters())
    for name, value in kept.items():
        parameters[name].data = value


def choose_head(run: dict[str, Any]) -> None:
    """Let the head score supervised positions only, if asked to, as with Triton: without it, it scores every one."""
    if run["head"] != "supervised":
        return
    from trl.trainer import utils  # type: ignore[import-not-found,import-untyped,unused-ignore]

    setattr(utils, "_use_triton", lambda _: True)  # noqa: B010 - mypy knows the function's type where TRL is installed


def main(make: Callable[[dict[str, Any], PeftModel, Path], Any] = trainer) -> None:
    """Run and write what was measured.

    Args:
        make: makes the trainer of a run, its model and its folder.
    """
    run, result = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    torch.manual_seed(run["seed"])
    measured = Measured()
    ready = make(run, model(run), result.parent)
    ready.add_callback(Watch(measured, count_tensors=run["count_tensors"]))
    with plain_layers():  # our loader puts layers of our own in place of transformers' and PEFT's
        ready.train()
    measured.finish()
    result.write_text(json.dumps(measured.as_dict()), encoding="utf-8")


if __name__ == "__main__":
    main()
