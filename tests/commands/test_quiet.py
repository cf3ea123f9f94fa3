"""Tests of silenced messages and of the progress bar: only what was named is silent, the bar counts steps."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vlm_lit.commands.quiet import quiet
from vlm_lit.training.callbacks.progress import PlainStepBar, StepBar, epoch_text, progress_bar

SILENCED = (
    "kernels-community",
    "Tip:",
    "Loading weights",
    "GPU available",
    "TPU",
    "max_epochs",
    "is_gradient_checkpointing",
    "LeafSpec",
    "eval mode",
    "many workers",
)


@pytest.mark.slow
def test_a_run_shows_its_own_words_only(config: Callable[..., Path]) -> None:
    path = config(trainer={"enable_progress_bar": True})
    command = [sys.executable, "-m", "vlm_lit", "fit", "--config", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    said = shown.stdout + shown.stderr
    assert not [words for words in SILENCED if words in said]
    assert "Epoch" not in said
    assert "epoch 1/1" in shown.stdout
    assert "3 optimizer steps of 8 conversations" in said
    assert "Adapter written to" in said


def test_everything_else_is_let_through() -> None:
    quiet()
    quiet()
    for name in ("lightning.pytorch.utilities.rank_zero", "bitsandbytes.backends.cpu.ops"):
        logger = logging.getLogger(name)
        assert len([f for f in logger.filters if type(f).__name__ == "Unsaid"]) == 1
    rank_zero, shown = logging.getLogger("lightning.pytorch.utilities.rank_zero"), list[str]()
    heard = logging.Handler()
    heard.emit = lambda record: shown.append(record.getMessage())  # type: ignore[method-assign]
    rank_zero.addHandler(heard)
    try:
        rank_zero.warning("`Trainer.fit` stopped: `max_epochs=1` reached.")
        rank_zero.warning("`Trainer.fit` stopped: `max_steps=2` reached.")
        rank_zero.warning("Seed set to 7")
    finally:
        rank_zero.removeHandler(heard)
    assert shown == ["`Trainer.fit` stopped: `max_steps=2` reached.", "Seed set to 7"]


def test_other_warnings_still_warn() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        quiet()
        warnings.warn("Found 3 module(s) in eval mode at the start of training.", UserWarning, stacklevel=1)
        warnings.warn("The loss is negative", UserWarning, stacklevel=1)
        warnings.warn("`is_gradient_checkpointing` is deprecated", FutureWarning, stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["The loss is negative"]


def test_the_bar_works_with_and_without_rich(config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(progress_bar(), StepBar)
    from lightning.pytorch.callbacks.progress import rich_progress

    monkeypatch.setattr(rich_progress, "_RICH_AVAILABLE", False)
    assert isinstance(progress_bar(), PlainStepBar)
    from vlm_lit.cli import main

    assert main(["fit", "--config", str(config(trainer={"enable_progress_bar": True}))]) == 0


def test_the_plain_bar_counts_steps(
    config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vlm_lit.commands.trainer_arguments.progress_bar", PlainStepBar)
    from vlm_lit.cli import main

    assert main(["fit", "--config", str(config(trainer={"enable_progress_bar": True}))]) == 0
    shown = capfd.readouterr().out
    assert "epoch 1/1: 100%" in shown
    assert "Epoch" not in shown


def test_errors_and_our_own_words_stay_among_what_is_silenced() -> None:
    quiet()
    rank_zero, shown = logging.getLogger("lightning.pytorch.utilities.rank_zero"), list[str]()
    heard = logging.Handler()
    heard.emit = lambda record: shown.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [
        rank_zero,
        *map(logging.getLogger, ("lightning.pytorch.accelerators.cuda", "transformers.modeling_utils")),
    ]
    noise = [
        "GPU available: False, used: False", "TPU available: False, using: 0 TPU cores",
        "HPU available: False, using: 0 HPUs", "IPU available: False, using: 0 IPUs",
        "\N{ELECTRIC LIGHT BULB} Tip: For seamless cloud uploads and versioning",
    ]  # fmt: skip
    for logger in loggers:
        logger.addHandler(heard)
    try:
        for line in noise:
            rank_zero.warning(line)
        loggers[1].warning("LOCAL_RANK: 0 - CUDA_VISIBLE_DEVICES: [0]")
        loggers[2].warning("`torch_dtype` is deprecated! Use `dtype` instead!")
        for logger in loggers:
            logger.warning("This is an error of ours")
        rank_zero.warning("GPU available: True (cuda), used: True")
    finally:
        for logger in loggers:
            logger.removeHandler(heard)
    assert shown == ["This is an error of ours"] * 3 + ["GPU available: True (cuda), used: True"]


def test_the_loading_bar_alone_is_hidden(capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils.logging import tqdm

    from vlm_lit.models.loading_bar import without_loading_bar

    with without_loading_bar():
        for _ in tqdm(range(2), desc="Loading weights"):
            pass
        for _ in tqdm(range(2), desc="Fetching 2 files"):
            pass
    for _ in tqdm(range(2), desc="Loading weights of somebody else"):
        pass
    shown = capfd.readouterr().err
    assert "Loading weights:" not in shown
    assert "Fetching 2 files" in shown
    assert "Loading weights of somebody else" in shown


@pytest.mark.parametrize(
    ("steps", "limit", "told"),
    [
        (0, -1, "epoch 1/3"),
        (2, -1, "epoch 1/3"),
        (3, -1, "epoch 2/3"),
        (8, -1, "epoch 3/3"),
        (9, -1, "epoch 3/3"),
        (4, 5, "epoch 2/2"),
    ],
)  # fmt: skip
def test_the_bar_tells_the_pass(steps: int, limit: int, told: str) -> None:
    whole = 9 if limit < 0 else limit
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(steps_per_epoch=3, total_steps=whole))
    assert epoch_text(trainer, steps) == told


def test_the_bar_tells_steps_where_no_length_is_known() -> None:
    trainer: Any = SimpleNamespace(datamodule=object())
    assert epoch_text(trainer, 4) == "step"


@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_with_two_figures_is_one_line(columns: int) -> None:
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

    console = Console(width=columns, file=io.StringIO(), force_terminal=True)
    bar = StepBar()
    bar._console = console
    trainer: Any = SimpleNamespace()
    shown = Progress(*bar.configure_columns(trainer), console=console)
    shown.add_task("epoch 2/3  ", total=1000, completed=500)
    figures = Text("train/loss: 10.627 val/vqa_accuracy: 0.012")
    with console.capture() as drawn:
        console.print(shown)
    first, *others = Text.from_ansi(drawn.get()).plain.splitlines()
    assert not others
    assert first.startswith("epoch 2/3")
    assert "500/1000" in first
    assert len(first.rstrip()) + 1 + len(figures) <= columns


def test_the_bar_tells_each_pass_as_it_begins(config: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    from vlm_lit.cli import main

    path = config(trainer={"enable_progress_bar": True, "max_epochs": 2})
    assert main(["fit", "--config", str(path)]) == 0
    shown = capfd.readouterr().out
    assert "epoch 2/2" in shown
