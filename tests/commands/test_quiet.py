"""Is only what was named silenced, and does the bar count what the user counts?"""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from vlm_lit.commands.quiet import quiet
from vlm_lit.training.callbacks.progress import PlainStepBar, StepBar, progress_bar

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


def test_a_run_shows_its_own_words_only(config: Callable[..., Path]) -> None:
    path = config(trainer={"enable_progress_bar": True})
    command = [sys.executable, "-m", "vlm_lit", "fit", "--config", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    said = shown.stdout + shown.stderr
    assert not [words for words in SILENCED if words in said]
    assert "Epoch" not in said
    assert "pass 1/1" in shown.stdout
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
    monkeypatch.setattr("vlm_lit.commands.lightning.progress_bar", PlainStepBar)
    from vlm_lit.cli import main

    assert main(["fit", "--config", str(config(trainer={"enable_progress_bar": True}))]) == 0
    shown = capfd.readouterr().out
    assert "pass 1/1: 100%" in shown
    assert "Epoch" not in shown
