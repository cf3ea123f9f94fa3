"""Quickstart-like runs for the soak: packed rows, cached vision features, two workers; and what such a run has left."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vlm_lit.files.whole import write_whole
from vlm_lit.workbench.base_model import copy_base
from vlm_lit.workbench.dataset import Dialect
from vlm_lit.workbench.dataset import write as write_workbench

Tamper = Callable[[], None]

_ROOT: Final = Path(__file__).parents[2]
_TIMED: Final = ("per_second", "data_wait_share", "peak_memory_gib")


def workbench(folder: Path, images: int, dialect: Dialect = "team") -> Path:
    """A drawn workbench with its base model; kept where it is there already."""
    if not (folder / "base" / "config.json").is_file():
        write_workbench(
            folder, train_images=images, val_images=2, test_images=2, seed=0, dialect=dialect, wrong_answers=0.0,
            look="plain",
        )  # fmt: skip
        copy_base(folder / "base")
    return folder


def config(path: Path, bench: Path, *, epochs: int, every_n_steps: int, validate_every: int) -> Path:
    """The quickstart's config over a small workbench: steps of 16 conversations, dropout on."""
    model: dict[str, Any] = yaml.safe_load((_ROOT / "configs/model/workbench_qlora.yaml").read_text())
    model["init_args"] |= {"model_id": str(bench / "base"), "max_new_tokens": 4}
    model["init_args"]["lora"] = {"rank": 8, "alpha": 16, "dropout": 0.1, "targets": ["attention"]}
    keeper = {
        "class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": every_n_steps, "keep": 2},
    }
    settings = {
        "seed_everything": 42,
        "run_dir": str(path.with_suffix("")),
        "trainer": {
            "accelerator": "cpu", "max_epochs": epochs, "log_every_n_steps": 1, "enable_progress_bar": False,
            "val_check_interval": validate_every, "callbacks": [keeper],
        },
        "model": model,
        "data": {
            "class_path": "vlm_lit.data.datamodule.ConversationDataModule",
            "init_args": {
                **{split: {"path": str(bench / f"{split}.json")} for split in ("train", "val")},
                "effective_batch": 16, "micro_batch": 1, "questions_per_row": 8, "eval_batch": 16, "max_length": 1024,
                "num_workers": 2, "feature_cache": str(bench / "features"),
            },
        },
    }  # fmt: skip
    write_whole(path, yaml.safe_dump(settings))
    return path


def _run(arguments: tuple[str, ...], log: Path, tamper: Tamper | None) -> None:
    import torch

    from vlm_lit.cli import main

    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for data workers: as in a process started by hand
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if tamper is not None:
        tamper()
    sys.exit(main(list(arguments)))


def begin(path: Path, folder: Path, *, resume: bool, tamper: Tamper | None = None) -> BaseProcess:
    """A `fit` in a process of its own."""
    more = ("--ckpt_path", "last") if resume else ()
    return begin_verb(
        ["fit", "--config", str(path), "--run_dir", str(folder), *more], folder.with_suffix(".log"), tamper
    )


def begin_verb(words: list[str], log: Path, tamper: Tamper | None = None) -> BaseProcess:
    """A command in a process of its own, forked from one that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vlm_lit.commands.lightning", "vlm_lit.training.supervised", "bitsandbytes"])
    process = context.Process(target=_run, args=(tuple(words), log, tamper))
    process.start()
    return process


def last_words(folder: Path) -> str:
    """The last line that the processes of a run have said."""
    lines = folder.with_suffix(".log").read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


@dataclass(frozen=True)
class Trace:
    """What must be equal to the last bit: every figure that TensorBoard shows, its pictures, the trained weights."""

    figures: dict[str, list[tuple[int, str]]]
    pictures: dict[str, list[tuple[int, str]]]
    adapter: str

    @classmethod
    def of(cls, folder: Path) -> Trace:
        """What the run in `folder` has left; timings are none of it."""
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
        events.Reload()
        tags = events.Tags()
        return cls(
            {
                tag: [(e.step, e.value.hex()) for e in events.Scalars(tag)]
                for tag in tags["scalars"]
                if not tag.endswith(_TIMED)
            },
            {
                tag: [(e.step, hashlib.sha256(e.encoded_image_string).hexdigest()) for e in events.Images(tag)]
                for tag in tags["images"]
            },
            hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest(),
        )

    def differences(self, other: Trace) -> list[str]:
        """What is another in `other`, in words."""
        found = [] if self.adapter == other.adapter else ["the adapter"]
        for kind, mine, theirs in (
            ("curve", self.figures, other.figures),
            ("pictures", self.pictures, other.pictures),
        ):
            for tag in sorted({*mine, *theirs}):
                was, now = mine.get(tag, []), theirs.get(tag, [])
                if was != now:
                    steps = [step for step, _ in now]
                    twice = len(steps) - len(set(steps))
                    missing = len({step for step, _ in was} - set(steps))
                    found.append(f"{kind} {tag} ({missing} missing, {twice} twice of {len(was)})")
        return found
