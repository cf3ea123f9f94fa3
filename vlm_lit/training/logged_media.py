"""Pictures and tables for every logger, each as the kind of thing that the logger shows best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from vlm_lit.curve_tags import picture_tag
from vlm_lit.files.csv_text import csv_text
from vlm_lit.files.whole import write_whole
from vlm_lit.training.run_logger import RunLogger

Row = Sequence[str | float | None]


def log_picture(loggers: Sequence[Logger], name: str, picture: Image.Image, step: int) -> None:
    """Hand a picture to each logger that can show one; CSV gets a PNG file beside its figures.

    Args:
        loggers: the run's.
        name: with slashes, as the figures' names.
        picture: what to show.
        step: the optimizer step at which the figures of the same answers are logged.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(_tag(logger, name), np.asarray(picture), step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], step=step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(_run_of(logger), picture, f"{name}/{_file(step)}.png")
        elif isinstance(logger, CSVLogger):
            picture.save(_place(logger, name, step, "png"))


def log_table(loggers: Sequence[Logger], name: str, header: Sequence[str], rows: Sequence[Row], step: int) -> None:
    """Hand a table to each logger that can show one; CSV gets a file beside its figures.

    Args:
        loggers: the run's.
        name: with slashes, as the figures' names.
        header: the columns' names.
        rows: as many values each.
        step: as in `log_picture`.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(_tag(logger, name), _markdown(header, rows), step)
        elif isinstance(logger, WandbLogger):
            logger.log_table(name, columns=list(header), data=[list(row) for row in rows], step=step)
        elif isinstance(logger, MLFlowLogger):
            columns: dict[str, Any] = {column: [row[i] for row in rows] for i, column in enumerate(header)}
            logger.experiment.log_table(_run_of(logger), columns, f"{name}/{_file(step)}.json")
        elif isinstance(logger, CSVLogger):
            write_whole(_place(logger, name, step, "csv"), csv_text([header, *rows]))


def _tag(logger: TensorBoardLogger, name: str) -> str:
    """Where a picture or table stands: our own log has its page in order, another one has the names as they are."""
    return picture_tag(name) if isinstance(logger, RunLogger) else name


def _run_of(logger: MLFlowLogger) -> str:
    assert logger.run_id is not None
    return logger.run_id


def _file(step: int) -> str:
    return f"step-{step:06d}"


def _place(logger: CSVLogger, name: str, step: int, kind: str) -> Path:
    path = Path(logger.log_dir) / name / f"{_file(step)}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _markdown(header: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    text = f"{value:.3g}" if isinstance(value, float) else " ".join(value.split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("](", "]\\(")
