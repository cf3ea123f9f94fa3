"""Run directory: the results, predictions and adapter that a run leaves, each written whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.files.whole import write_whole
from vlm_lit.models.adapter_state import FINGERPRINT, WEIGHTS, file_sha256, save_adapter
from vlm_lit.schema import Prediction, RunResult
from vlm_lit.training.base import VisionLanguageModule
from vlm_lit.training.identity import library_versions
from vlm_lit.training.kept_pictures import with_pictures
from vlm_lit.training.run_files import EVALUATIONS, set_aside
from vlm_lit.training.skipped_records import skipped
from vlm_lit.training.supervised import SupervisedModule
from vlm_lit.training.trainer import run_folder

_FILES: Final = {
    "val": ("val_predictions.jsonl", "val_results.json"),
    "test": ("predictions.jsonl", "results.json"),
    "predict": ("predict_predictions.jsonl", "predict_results.json"),
}


class RunDirectory(Callback):
    """Writes `adapter/` at the end of `fit`, predictions and results after `test`, `validate` and `predict`."""

    def on_fit_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Write the trained weights as a PEFT folder with its fingerprint.

        Not in `on_train_end`: a run killed between its last checkpoint and this has no step left when it is resumed,
        and Lightning then leaves that hook out.
        """
        assert isinstance(pl_module, VisionLanguageModule)
        if trainer.is_global_zero and pl_module.model is not None:
            run = run_folder(trainer)
            if pl_module.global_step > pl_module.loaded_step:
                _keep_results(run)
            target = run / "adapter"
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
        pl_module.last_metrics = {}
        self._write(trainer, pl_module, "predict")

    def _write_answers(self, trainer: LightningTrainer, pl_module: SupervisedModule, split: str, name: str) -> None:
        run, items = run_folder(trainer), pl_module.data.asked(split)
        asked = (items[i] for i in range(len(items)))
        if pl_module.last_predictions or split != "val":
            write_predictions(run / name, with_pictures(pl_module.last_predictions, asked, run))
        else:  # a validation by its loss alone; an earlier one's answers would be taken for this one's
            (run / name).unlink(missing_ok=True)

    def _write(self, trainer: LightningTrainer, pl_module: LightningModule, split: str) -> None:
        assert isinstance(pl_module, SupervisedModule)
        if not trainer.is_global_zero:
            return
        answered = pl_module.last_predictions
        result = RunResult(
            split=split,
            n=len(answered) if answered or split != "val" else pl_module.validation_loss.records,
            metrics=pl_module.last_metrics,
            model_id=pl_module.model_id,
            global_step=_steps(pl_module),
            versions=library_versions(),
            weights=_weights(trainer, pl_module),
            skipped_records=len(skipped(pl_module.data.datasets[split])) or None,
            judged_turns=pl_module.data.judged_turns if any(p.turn is not None for p in answered) else None,
        )
        predictions, name = _FILES[split]
        self._write_answers(trainer, pl_module, split, predictions)
        results = run_folder(trainer) / name
        stated = {name: value for name, value in asdict(result).items() if value is not None}
        write_whole(results, json.dumps(stated, indent=2) + "\n")
        rank_zero_info(f"Results written to {results}")


def _keep_results(run: Path) -> None:
    """Move what earlier weights of this run have scored out of the way of the new adapter."""
    for verb in EVALUATIONS:
        moved = set_aside(run, verb)
        if moved is not None:
            rank_zero_info(f"The results of {verb} with the earlier weights are now in {moved}")


def _steps(module: VisionLanguageModule) -> int:
    """Optimizer steps behind the weights that were evaluated, those of the adapter they began as among them."""
    if module.trained_steps or module.adapter is None:
        return module.trained_steps
    fingerprint = Path(module.adapter) / FINGERPRINT
    return int(json.loads(fingerprint.read_text()).get("global_step", 0)) if fingerprint.is_file() else 0


def _weights(trainer: LightningTrainer, module: VisionLanguageModule) -> dict[str, str]:
    """Which weights were evaluated: a checkpoint's, an adapter's with its digest, or the base's."""
    if trainer.ckpt_path is not None:
        return {"checkpoint": str(trainer.ckpt_path)}
    if module.adapter is not None:
        return {"adapter": module.adapter, "sha256": file_sha256(Path(module.adapter) / WEIGHTS)}
    return {"base": module.model_id}


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write `predictions.jsonl`, one prediction a line."""
    write_whole(path, "".join(json.dumps(_line(p), ensure_ascii=False) + "\n" for p in predictions))


def _line(prediction: Prediction) -> dict[str, object]:
    """Its fields; those that few predictions have, only where there is something in them."""
    nothing = {"choices": (), "confidence": None, "turn": None}
    return {name: value for name, value in asdict(prediction).items() if name not in nothing or value != nothing[name]}
