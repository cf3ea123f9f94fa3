"""The scores of a test or a validation in the terminal: a line for each group, a column for each metric."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from typing import Final

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer

from vlm_lit.errors import printable

OVERALL: Final = "overall"
_NAME: Final = re.compile(r"([^/\[]+(?:\[[^\]]*\])?)(?:/(.+))?")  # of a metric with its options, then of a group


class ResultsTable(Callback):
    """Prints what `test` and `validate` found, in place of Lightning's table, which cuts names to fit its frame.

    `--verbose false` prints none of it.
    """

    def __init__(self) -> None:
        self._is_asked = False

    def on_test_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Keep Lightning's table back."""
        self._is_asked, trainer.test_loop.verbose = trainer.test_loop.verbose, False

    def on_test_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Print the test's."""
        self._print(trainer, "test")

    def on_validation_start(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Keep Lightning's table back."""
        if trainer.state.fn == "validate":
            self._is_asked, trainer.validate_loop.verbose = trainer.validate_loop.verbose, False

    def on_validation_end(self, trainer: LightningTrainer, pl_module: LightningModule) -> None:
        """Print the validation's, where it is not one of many within `fit`."""
        if trainer.state.fn == "validate":
            self._print(trainer, "val")

    def _print(self, trainer: LightningTrainer, split: str) -> None:
        values = {str(name): float(value) for name, value in trainer.callback_metrics.items()}
        if values and self._is_asked and trainer.is_global_zero:
            print(f"\n{results_text(values, split, shutil.get_terminal_size().columns)}")


def results_text(values: Mapping[str, float], split: str, width: int) -> str:
    """Three decimals of each value, under the whole name of its metric; a list of names where columns are too wide.

    Args:
        values: by logged name, `test/vqa_accuracy` or `test/vqa_accuracy/number`.
        split: what the names begin with.
        width: characters of a line.
    """
    named = {name.removeprefix(f"{split}/"): value for name, value in values.items()}
    cells = {_parted(name): value for name, value in named.items()}
    metrics = list(dict.fromkeys(metric for metric, _ in cells))
    groups = sorted({group for _, group in cells}, key=lambda group: (group != OVERALL, group.count("/"), group))
    rows = [("", *metrics), *((group, *(_shown(cells.get((metric, group))) for metric in metrics)) for group in groups)]
    table = _aligned(rows)
    if max(map(len, table)) > width:
        table = _aligned([(name, _shown(value)) for name, value in named.items()])
    return printable("\n".join([f"{split}:", *table]), lines=True)


def _parted(name: str) -> tuple[str, str]:
    found = _NAME.fullmatch(name)
    return (found[1], found[2] or OVERALL) if found else (name, OVERALL)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
