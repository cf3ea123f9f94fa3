"""The two forms of a classifier's budget: tables of text, and JSON with every size in bytes."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import Final

from vlm_lit.commands.budget_json import recipe, report
from vlm_lit.commands.budget_text import ranks_said, sections, table
from vlm_lit.models.parts import trainable_percent
from vlm_lit.preflight.budget.class_budget import ClassBudget

_WIDTH: Final = 110
_ROWS: Final = """Rows are taken to be the largest: questions of that many tokens about pictures of the longest shape
that ViLT's processor makes. In a batch where tall and wide pictures meet, the pixels take up to 1.6 times as much."""


def class_text(budget: ClassBudget) -> str:
    """The budget as text."""
    return sections(budget, {"Run": _run(budget), "Parameters": _parameters(budget)}, notes=[_ROWS])


def _run(budget: ClassBudget) -> str:
    row = budget.row
    said = (
        f"{budget.model_id} ({budget.model_type}), {budget.precision}, activation checkpointing "
        f"{'on' if budget.checkpointing else 'off'}. {row.answers:,} answers ({row.source}). Questions of {row.words} "
        f"tokens about pictures of {row.width} x {row.height} pixels, {row.patches} patches. * is the run as "
        f"configured.{ranks_said(budget)}"
    )
    return textwrap.fill(said, _WIDTH)


def _parameters(budget: ClassBudget) -> str:
    """What each part holds, and what each way to train trains of it."""
    if not budget.needs:
        return ""
    first = budget.needs[0].parts
    lines = [
        (f"{row.part}: {row.parameters:,}, trainable", [f"{needs.parts[i].trainable:,}" for needs in budget.needs])
        for i, row in enumerate(first)
    ]
    total = f"all: {sum(row.parameters for row in first):,}, trainable"
    lines.append((total, [f"{sum(row.trainable for row in needs.parts):,}" for needs in budget.needs]))
    lines.append(("share, %", [f"{trainable_percent(needs.parts):.2f}" for needs in budget.needs]))
    return table(budget, "", lines)


def class_json(budget: ClassBudget) -> str:
    """The budget as one JSON object, ASCII only; every size in bytes."""
    recipes = [
        {**recipe(needs, lambda _: {}), "parameters": [asdict(row) for row in needs.parts]} for needs in budget.needs
    ]
    return report(budget, {"row": asdict(budget.row)}, recipes)
