"""Evaluations of a run's model and of its base on one benchmark, each a `test` in a folder of its own."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.commands.lightning_verb import ended
from vlm_lit.commands.process_rules import refusing
from vlm_lit.errors import VlmLitError
from vlm_lit.files.strict_yaml import read_strict
from vlm_lit.files.whole import write_whole
from vlm_lit.training.opened_model import made_from
from vlm_lit.workbench.dataset import EVALUATION_QUESTIONS
from vlm_lit.workbench.dataset import write as write_dataset

_SEED: Final = 20_001
"""A world that neither the built-in bases nor any example of this project was trained on."""

_SOURCE: Final = (
    "name", "revision", "records", "annotations", "image_name", "ignore_keys", "weights", "image_root", "columns",
    "lists", "images_from", "group_fields", "prompt_without_choices",
)  # fmt: skip
"""What a run's own test data may have set, and the workbench has not."""

_HELD_TO: Final = ("answer_from", "answer_schema")
"""What a run's answers may be held to. Its list is for its own questions: all others would be answered from it."""


def ask_both(run: Path, overlay: Path, folder: Path, more: Sequence[str]) -> tuple[Path, Path]:
    """Let both models answer, in words of their own; the folders of the tuned model's answers and of the base's.

    Args:
        run: the tuned model's run.
        overlay: config that sets the test data, laid over the run's.
        folder: gets a folder for each.
        more: options of `test`, for both alike.

    Raises:
        VlmLitError: the questions cannot be had, or a model cannot be asked them.
    """
    tuned, base = folder / "tuned", folder / "base"
    config = read_strict(run / "config.yaml", "config")
    model = made_from(config.get("model") if isinstance(config, dict) else None)
    laid = [*_unheld(model, folder), "--config", str(overlay), *more]
    _test(["--from", str(run), *laid, f"--run_dir={tuned}"])
    as_it_is = ["--ckpt_path=null", "--model.init_args.adapter=null", *_unstarted(model), f"--run_dir={base}"]
    _test(["--config", str(run / "config.yaml"), *laid, *as_it_is])
    return tuned, base


def _unstarted(model: Mapping[str, Any]) -> list[str]:
    """Options that leave the base without the start of an update: LoftQ's makes another model of it."""
    lora = model.get("lora")
    start = lora.get("start") if isinstance(lora, dict) else None
    return [] if start in (None, "random") else ["--model.init_args.lora.start=random"]


def _unheld(model: Mapping[str, Any], folder: Path) -> list[str]:
    """Options that let answers go free which a run's config holds, written below the benchmark: it may hold its own."""
    held = dict.fromkeys(name for name in _HELD_TO if model.get(name) is not None)
    if not held:
        return []
    path = folder / "free_answers.yaml"
    write_whole(path, json.dumps({"model": {"init_args": held}}, indent=1) + "\n")
    return ["--config", str(path)]


def _test(words: Sequence[str]) -> None:
    def evaluate() -> None:
        with refusing():
            VlmLitCLI("test", words)

    status = ended(evaluate)
    gc.collect()  # the next model needs the room
    if status:
        raise VlmLitError(f"test was ended with status {status}; nothing is compared. The same command begins again.")


def workbench_overlay(folder: Path, questions: int) -> Path:
    """The overlay of plain questions about drawn pictures, which are written beside it once.

    Args:
        folder: gets the pictures, the questions and the overlay.
        questions: how many there are at least.
    """
    images = -(-questions // EVALUATION_QUESTIONS) + 1  # of few pictures not all allow as many questions
    drawn = folder / f"questions_{images}"
    if not drawn.is_dir():
        write_dataset(drawn, train_images=1, val_images=1, test_images=images, seed=_SEED, dialect="plain")
    source = {**dict.fromkeys(_SOURCE), "path": str(drawn / "test.json"), "split": "train", "streaming": False}
    settings = {
        "data": {"init_args": {"test": source, "prompt": None, "system": None}},
        "model": {"init_args": {"max_new_tokens": 40, "metrics": [{"name": "vqa_accuracy"}, {"name": "exact_match"}]}},
    }
    path = folder / "workbench.yaml"
    write_whole(path, json.dumps(settings, indent=1) + "\n")  # which is YAML as well
    return path
