"""One run of ours in the benchmark: `python -m vlm_lit fit` in this process, with a measuring callback.

python scripts/benchmark/ours.py run.json result.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from measuring import Measured

from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.commands.process_rules import restrict_imports
from vlm_lit.schema import StepBatch


class Watch(Callback):
    """Notes time, memory and conversations of every step."""

    def __init__(self, measured: Measured, *, count_tensors: bool) -> None:
        self.measured, self.count_tensors = measured, count_tensors

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is loaded; what comes before the first step, such as filling the feature cache, counts."""
        self.measured.begin(pl_module, count_tensors=self.count_tensors)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: StepBatch, batch_idx: int
    ) -> None:
        """A step is over."""
        self.measured.step()
        self.measured.losses.append(float(trainer.callback_metrics["train/loss"]))
        self.measured.ids.append(sorted({record_id(name) for name in batch.ids}))


def record_id(name: str) -> str:
    """The id of the record that a conversation, or a side of a pair, is from."""
    return name.removesuffix("/chosen").removesuffix("/rejected")


class Waits(Callback):
    """Notes what the run itself logs of its waiting for data; stands behind the callback that logs it."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: StepBatch, batch_idx: int
    ) -> None:
        """A step is over."""
        self.measured.waits.append(round(float(trainer.callback_metrics["train/data_wait_share"]), 4))


class WatchedCLI(VlmLitCLI):
    """`fit` with the watch among its callbacks."""

    measured = Measured()
    count_tensors = False

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's signature
        """The trainer, watched."""
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.insert(0, Watch(self.measured, count_tensors=self.count_tensors))  # type: ignore[attr-defined]
        trainer.callbacks.append(Waits(self.measured))  # type: ignore[attr-defined]
        return trainer


def settings(run: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The config of a run: what a user would write for it; supervised fine-tuning where it says nothing else."""
    data = {
        "train": {"path": run["train"]},
        "effective_batch": run["batch"],
        "micro_batch": run["micro_batch"],
        "num_workers": 0,
        "max_length": None,
        **run["data"],
    }
    return {
        "seed_everything": run["seed"],
        "run_dir": str(folder / "run"),
        "trainer": {
            "accelerator": "cpu" if run["device"] == "cpu" else "gpu",
            "devices": 1,
            "precision": "bf16-mixed" if run["autocast"] else "32-true",
            "max_epochs": run["passes"],
            "max_steps": run["max_steps"],
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
        },
        "model": {
            "class_path": run.get("module", "vlm_lit.training.supervised.SupervisedModule"),
            "init_args": {
                "model_id": run["checkpoint"],
                "parts": run["parts"],
                "quantization": {"compute_dtype": run["compute"]},
                "lora": run["lora"],
                "activation_checkpointing": run["checkpointing"],
                "learning_rate": run["learning_rate"],
                "schedule": "constant",
                "warmup_ratio": 0.0,
                **run.get("module_settings", {}),
            },
        },
        "data": {
            "class_path": run.get("data_module", "vlm_lit.data.datamodule.ConversationDataModule"),
            "init_args": data,
        },
    }


def main() -> None:
    """Run and write what was measured."""
    run, result = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    config = result.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings(run, result.parent)), encoding="utf-8")
    restrict_imports()
    WatchedCLI.count_tensors = run["count_tensors"]
    WatchedCLI("fit", ["--config", str(config)])
    WatchedCLI.measured.finish()
    result.write_text(json.dumps(WatchedCLI.measured.as_dict()), encoding="utf-8")


if __name__ == "__main__":
    main()
