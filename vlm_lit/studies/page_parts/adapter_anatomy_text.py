"""LoRA updates of an adapter as an aligned table and as CSV: a row a layer's matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vlm_lit.files.csv_text import csv_text
from vlm_lit.studies.run_files.adapter_anatomy import AdapterAnatomy, LoraUpdate

_TEXTS: Final = 4  # columns that are text, and stand left


def anatomy_table(anatomy: AdapterAnatomy) -> str:
    """The updates, a line each, and how many numbers were trained in full besides."""
    header = ("part", "stack", "layer", "matrix", "rank", "norm", "largest", "stable rank")
    rows = [(*_place(update), *_figures(update)) for update in anatomy.updates]
    in_full = ", ".join(f"{part} ({count:,} numbers)" for part, count in anatomy.in_full.items())
    lines = _aligned([header, *rows]) if rows else ["No layer has a LoRA update."]
    return "\n".join([*lines, *([f"Trained in full besides: {in_full}."] if in_full else [])])


def anatomy_csv(anatomy: AdapterAnatomy) -> str:
    """The updates in full precision, their singular values in one column with blanks between."""
    header = ("part", "stack", "layer", "matrix", "rank", "norm", "stable_rank", "singular_values")
    return csv_text([header, *map(_line, anatomy.updates)])


def _line(update: LoraUpdate) -> tuple[str | float | None, ...]:
    values = " ".join(map(str, update.singular_values))
    place = (update.part, update.stack, update.layer, update.leaf, update.rank)
    return *place, update.norm, update.stable_rank, values


def _place(update: LoraUpdate) -> tuple[str, str, str, str, str]:
    layer = "-" if update.layer is None else str(update.layer)
    return update.part, update.stack, layer, update.leaf, str(update.rank)


def _figures(update: LoraUpdate) -> tuple[str, str, str]:
    return f"{update.norm:.3f}", f"{update.singular_values[0]:.3f}", f"{update.stable_rank:.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.ljust(w) if i < _TEXTS else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
