"""The row that a budget assumes: a run's longest, with its supervised tokens and pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_lit.data.record_datamodule import RecordDataModule
from vlm_lit.data.records.sources import name_of
from vlm_lit.data.rows.length_limit import auto_length
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.schema import IGNORE_INDEX, TokenBatch


@dataclass(frozen=True, kw_only=True)
class LongestRow:
    """What every row of a micro-batch is taken to be.

    Args:
        length: tokens, image tokens included.
        supervised: positions with a label.
        images: pictures.
        source: where the numbers come from, in words.
    """

    length: int
    supervised: int
    images: int
    source: str


def longest_row(
    data: TokenRows[Any],
    *,
    length: int | None,
    supervised: int | None,
    images: int,
    image_tokens: Callable[[int], int | None],
) -> LongestRow:
    """The row to estimate with: as asked, else the longest of the data where they are here, else `data.max_length`.

    Args:
        data: the run's, not yet opened.
        length: tokens, where asked for.
        supervised: supervised positions, where asked for.
        images: pictures in a row.
        image_tokens: by the tokens of a row those that a picture in it becomes, where known: no label stands there.

    Raises:
        VlmLitError: the data are here and cannot be used, or nothing says how long a row is.
    """
    if length is None and is_here(data, "train"):
        found = _measured(data)
        return LongestRow(
            length=found[0],
            supervised=_within(supervised if supervised is not None else found[1], found[0]),
            images=images,
            source=f"the longest row of {_path(data)}",
        )
    tokens = length if length is not None else _limit(data, images)
    if tokens is None:
        raise ConfigError("How long is a row? The data are not here, and data.max_length is null. Add --length.")
    said = "--length" if length is not None else f"data.max_length; {_path(data)} is not here"
    asked = supervised or max(1, tokens - images * (image_tokens(tokens) or 0))
    return LongestRow(length=tokens, supervised=_within(asked, tokens), images=images, source=said)


def _limit(data: TokenRows[Any], images: int) -> int | None:
    """`data.max_length`, for so many pictures where it is `auto`."""
    if data.max_length != "auto":
        return data.max_length
    try:
        return auto_length(data.processor, images).limit
    except ConfigError as error:
        raise ConfigError(
            f"How long is a row? The data are not here, and max_length is auto. {error} Or add --length."
        ) from error


def _within(supervised: int, length: int) -> int:
    if supervised > length:
        raise ConfigError(f"--supervised is {supervised}, more than the {length} tokens of a row.")
    return supervised


def _path(data: TokenRows[Any]) -> str:
    source = data.sources["train"]
    return name_of(source) if source is not None else "data.train"


def is_here(data: RecordDataModule[Any], split: str) -> bool:
    """Whether the files of a split lie on this machine."""
    source = data.sources[split]
    paths = [] if source is None else [source.path] if isinstance(source.path, str) else source.path
    return bool(paths) and all(Path(path).exists() for path in paths)


def _measured(data: TokenRows[Any]) -> tuple[int, int]:
    data.setup("fit")
    window = data.longest_step(1)
    if window is None or not window.micro_batches:
        raise VlmLitError(f"The longest row of {_path(data)} is not known ahead. Say it by --length.")
    rows = [(batch.labels.shape[1], _most_supervised(batch)) for batch in window.micro_batches]
    return max(length for length, _ in rows), max(supervised for _, supervised in rows)


def _most_supervised(batch: TokenBatch) -> int:
    """Supervised positions of the row that has most of them."""
    return int((batch.labels[:, 1:] != IGNORE_INDEX).sum(1).max())
