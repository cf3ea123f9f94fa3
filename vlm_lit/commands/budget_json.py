"""The JSON form of a budget, every size in bytes."""

from __future__ import annotations

import json
from dataclasses import asdict

from vlm_lit.commands.budget_text import ROWS, fitting
from vlm_lit.preflight.budget.estimate import PURPOSES, Needs
from vlm_lit.preflight.budget.gpus import GPUS
from vlm_lit.preflight.budget.report import Budget


def as_json(budget: Budget) -> str:
    """The budget as one JSON object, ASCII only; every size in bytes."""
    report = {
        "model_id": budget.model_id,
        "model_type": budget.model_type,
        "precision": budget.precision,
        "activation_checkpointing": budget.checkpointing,
        "cross_attention": budget.cross_attention,
        "row": asdict(budget.row),
        "picture": asdict(budget.picture),
        "images_counted": budget.uncounted is None,
        "recipes": [_recipe(needs) for needs in budget.needs],
        "refused": [{"name": r.recipe.name, "reason": r.reason} for r in budget.refused],
    }
    return json.dumps(report, indent=2) + "\n"


def _recipe(needs: Needs) -> dict[str, object]:
    stored: dict[str, object] = {purpose: needs.stored(purpose) for purpose in PURPOSES}
    return {
        "name": needs.recipe.name,
        "configured": needs.recipe.configured,
        "parts": asdict(needs.recipe.parts),
        "held": [asdict(holding) for holding in needs.held],
        "memory": stored
        | {
            "gradients": needs.gradients,
            "optimizer": asdict(needs.optimizer),
            "between_steps": needs.resident,
        },
        "micro_batches": [_micro_batch(needs, rows, on) for on in (True, False) for rows in ROWS],
        "gpus": [_gpu(needs, index) for index in range(len(GPUS))],
        "disk": {"adapter": needs.adapter, "checkpoint": needs.checkpoint},
    }


def _micro_batch(needs: Needs, rows: int, checkpointing: bool) -> dict[str, object]:
    return {
        "rows": rows,
        "activation_checkpointing": checkpointing,
        "activations": needs.kept(rows, checkpointing=checkpointing),
        "logits": needs.head(rows),
        "logits_of_a_plain_head": needs.plain_head(rows),
        "peak": needs.peak(rows, checkpointing=checkpointing),
        "total": needs.total(rows, checkpointing=checkpointing),
    }


def _gpu(needs: Needs, index: int) -> dict[str, object]:
    return {
        **asdict(GPUS[index]),
        "usable": GPUS[index].usable,
        "most_rows": fitting(needs, index, checkpointing=True),
        "most_rows_without_checkpointing": fitting(needs, index, checkpointing=False),
    }
