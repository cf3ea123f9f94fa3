"""What does a run leave behind? Its results, its predictions and its adapter, each written whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.data.sources import ConversationDataset
from vlm_lit.models.adapter_state import save_adapter
from vlm_lit.schema import Prediction, RunResult
from vlm_lit.training.base import VisionLanguageModule
from vlm_lit.training.identity import library_versions
from vlm_lit.training.kept_pictures import with_pictures
from vlm_lit.training.supervised import SupervisedModule
from vlm_lit.training.trainer import run_folder
from vlm_lit.whole_file import write_whole

_FILES = {"val": ("val_predictions.jsonl", "val_results.json"), "test": ("predictions.jsonl", "results.json")}


class RunDirectory(Callback):
    """Writes `adapter/` at the end of `fit`, predictions and results after `test`, `validate` and `predict`."""

    def on_fit_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Write the trained weights as a PEFT folder with its fingerprint.

        Not in `on_train_end`: a run killed between its last checkpoint and this has no step left when it is resumed,
        and Lightning then leaves that hook out.
        """
        assert isinstance(pl_module, VisionLanguageModule)
        if trainer.is_global_zero and pl_module.model is not None:
            target = run_folder(trainer) / "adapter"
            save_adapter(pl_module.model, target, pl_module.fingerprint())
            rank_zero_info(f"Adapter written to {target}")

    def on_validation_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Write a validation's results, unless it is one of many within `fit`."""
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module, "val")

    def on_test_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Write the test's results."""
        self._write(trainer, pl_module, "test")

    def on_predict_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Write the answers, unjudged."""
        assert isinstance(pl_module, SupervisedModule)
        if trainer.is_global_zero:
            self._write_answers(trainer, pl_module, "predict", "predictions.jsonl")

    def _write_answers(self, trainer: LightningTrainer, pl_module: SupervisedModule, split: str, name: str) -> None:
        run, dataset = run_folder(trainer), pl_module.data.datasets[split]
        assert isinstance(dataset, ConversationDataset)
        asked = (dataset[i] for i in range(len(dataset)))
        write_predictions(run / name, with_pictures(pl_module.last_predictions, asked, run))

    def _write(self, trainer: LightningTrainer, pl_module: LightningModule, split: str) -> None:
        assert isinstance(pl_module, SupervisedModule)
        if not trainer.is_global_zero:
            return
        result = RunResult(
            split=split,
            n=len(pl_module.last_predictions),
            metrics=pl_module.last_metrics,
            model_id=pl_module.model_id,
            global_step=pl_module.trained_steps,
            versions=library_versions(),
        )
        predictions, name = _FILES[split]
        self._write_answers(trainer, pl_module, split, predictions)
        results = run_folder(trainer) / name
        write_whole(results, json.dumps(asdict(result), indent=2) + "\n")
        rank_zero_info(f"Results written to {results}")


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write `predictions.jsonl`, one prediction a line."""
    write_whole(path, "".join(json.dumps(_line(p), ensure_ascii=False) + "\n" for p in predictions))


def _line(prediction: Prediction) -> dict[str, object]:
    """Its fields; those that few predictions have, only where there is something in them."""
    nothing = {"choices": (), "confidence": None}
    return {name: value for name, value in asdict(prediction).items() if name not in nothing or value != nothing[name]}
