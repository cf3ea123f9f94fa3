"""Run directory: the results, predictions and adapter that a run leaves, each written whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.files.whole import write_whole
from vlm_lit.models.adapter_state import FINGERPRINT, WEIGHTS, file_sha256, save_adapter
from vlm_lit.models.merge.base_source import read_fingerprint
from vlm_lit.schema import Prediction
from vlm_lit.training.answer_basis import basis_of, in_words
from vlm_lit.training.callbacks.pictures import leading_rule
from vlm_lit.training.identity import library_versions
from vlm_lit.training.kept_pictures import with_pictures
from vlm_lit.training.protocols import Adapted, AsksQuestions, Predicted
from vlm_lit.training.run_files import EVALUATIONS, set_aside
from vlm_lit.training.run_result import RunResult
from vlm_lit.training.skipped_records import skipped
from vlm_lit.training.trainer import run_folder
from vlm_lit.training.validation_loss import ValidationLoss

_MEASURED: Final = ("val", "test")
"""Splits that may have a loss and no answers."""

_FILES: Final = {
    "val": ("val_predictions.jsonl", "val_results.json"),
    "test": ("predictions.jsonl", "results.json"),
    "predict": ("predict_predictions.jsonl", "predict_results.json"),
}


class RunDirectory(Callback):
    """Writes `adapter/` at the end of `fit`, predictions and results after `test`, `validate` and `predict`."""

    def __init__(self) -> None:
        self._loaded_step = 0

    def on_load_checkpoint(
        self, trainer: LightningTrainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note the steps behind a checkpoint's weights: in `test` Lightning's own count starts at zero."""
        self._loaded_step = int(checkpoint["global_step"])

    def _trained_steps(self, trainer: LightningTrainer, pl_module: LightningModule) -> int:
        """Steps behind the weights, whether this trainer made them, it read them, or `load_from_checkpoint` did."""
        return max(trainer.global_step, self._loaded_step, int(getattr(pl_module, "loaded_step", 0)))

    def on_fit_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Write the trained weights as a PEFT folder with its fingerprint.

        Not in `on_train_end`: a run killed between its last checkpoint and this has no step left when it is resumed,
        and Lightning then leaves that hook out.
        """
        if not trainer.is_global_zero:
            return
        if not isinstance(pl_module, Adapted):
            rank_zero_info(f"{type(pl_module).__name__} has no PEFT adapter, so none is written (fingerprint, model).")
        elif pl_module.model is not None:
            run = run_folder(trainer)
            if trainer.global_step > pl_module.loaded_step:
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
        self._write(trainer, pl_module, "predict")

    def _write_answers(
        self, trainer: LightningTrainer, answered: Sequence[Prediction], data: AsksQuestions, split: str, name: str
    ) -> None:
        run = run_folder(trainer)
        if not answered and split in _MEASURED:
            # By its loss alone; an earlier one's answers would be taken for this one's.
            (run / name).unlink(missing_ok=True)
            return
        items = data.asked(split)
        asked = (items[i] for i in range(len(items)))
        write_predictions(run / name, with_pictures(answered, asked, run))

    def _write(self, trainer: LightningTrainer, pl_module: LightningModule, split: str) -> None:
        data = getattr(trainer, "datamodule", None)
        if not trainer.is_global_zero:
            return
        if not (isinstance(pl_module, Predicted) and isinstance(data, AsksQuestions)):
            rank_zero_info(f"{type(pl_module).__name__} keeps no last_predictions, so no results are written.")
            return
        answered, longest = pl_module.last_predictions, _longest_answer(pl_module)
        leading = leading_rule(pl_module)
        result = RunResult(
            split=split,
            n=len(answered) if answered or split not in _MEASURED else _judged_by_loss(pl_module),
            metrics=pl_module.last_metrics,
            model_id=str(getattr(pl_module, "model_id", type(pl_module).__name__)),
            global_step=_steps(self._trained_steps(trainer, pl_module), pl_module),
            versions=library_versions(),
            weights=_weights(trainer, pl_module),
            judged_turns=data.judged_turns if any(p.turn is not None for p in answered) else None,
            **basis_of(
                answered,
                generated=longest is not None and getattr(pl_module, "answer_from", None) is None,
                zero_is_a_miss=leading is None or leading.higher_is_better,
            ),
            answer_schema=_answer_schema(pl_module),
            skipped_records=len(skipped(data.datasets[split])) or None,
        )
        predictions, name = _FILES[split]
        self._write_answers(trainer, answered, data, split, predictions)
        results = run_folder(trainer) / name
        stated = {name: value for name, value in asdict(result).items() if value is not None}
        write_whole(results, json.dumps(stated, indent=2) + "\n")
        for line in in_words(result, longest or 0):
            rank_zero_info(line)
        rank_zero_info(f"Results written to {results}")


def _keep_results(run: Path) -> None:
    """Move what earlier weights of this run have scored out of the way of the new adapter."""
    for verb in EVALUATIONS:
        moved = set_aside(run, verb)
        if moved is not None:
            rank_zero_info(f"The results of {verb} with the earlier weights are now in {moved}")


def _longest_answer(module: LightningModule) -> int | None:
    """Most tokens of an answer, where the module generates them within such a limit."""
    limit = getattr(module, "max_new_tokens", None)
    return limit if isinstance(limit, int) else None


def _answer_schema(module: LightningModule) -> dict[str, str] | None:
    """What generated answers were held to."""
    file = getattr(module, "answer_schema", None)
    return None if file is None else {"file": file, "sha256": file_sha256(Path(file))}


def _judged_by_loss(module: LightningModule) -> int:
    """Records behind an evaluation by its loss alone."""
    loss = getattr(module, "validation_loss", None)
    return loss.records if isinstance(loss, ValidationLoss) else 0


def _steps(trained: int, module: LightningModule) -> int:
    """Optimizer steps behind the weights that were evaluated, those of the adapter they began as among them."""
    adapter = getattr(module, "adapter", None)
    if trained or adapter is None:
        return trained
    fingerprint = Path(adapter) / FINGERPRINT
    return int(read_fingerprint(Path(adapter)).get("global_step") or 0) if fingerprint.is_file() else 0


def _weights(trainer: LightningTrainer, module: LightningModule) -> dict[str, str]:
    """Which weights were evaluated: a checkpoint's, an adapter's with its digest, or the base's."""
    if trainer.ckpt_path is not None:
        return {"checkpoint": str(trainer.ckpt_path)}
    adapter = getattr(module, "adapter", None)
    if adapter is not None:
        return {"adapter": adapter, "sha256": file_sha256(Path(adapter) / WEIGHTS)}
    return {"base": str(getattr(module, "model_id", type(module).__name__))}


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write `predictions.jsonl`, one prediction a line."""
    write_whole(path, "".join(json.dumps(_line(p), ensure_ascii=False) + "\n" for p in predictions))


def _line(prediction: Prediction) -> dict[str, object]:
    """Its fields; those that few predictions have, only where there is something in them."""
    nothing = {"choices": (), "confidence": None, "turn": None, "unfinished": False}
    return {name: value for name, value in asdict(prediction).items() if name not in nothing or value != nothing[name]}
