"""The JSON form of a budget, every size in bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from vlm_lit.commands.budget_text import ROWS, fitting
from vlm_lit.preflight.budget.gpus import GPUS
from vlm_lit.preflight.budget.needs import PURPOSES, Needs, StepNeeds
from vlm_lit.preflight.budget.report import Budget
from vlm_lit.preflight.budget.run_budget import RunBudget


def as_json(budget: Budget) -> str:
    """The budget as one JSON object, ASCII only; every size in bytes."""
    return report(
        budget,
        {
            "cross_attention": budget.cross_attention,
            "row": asdict(budget.row),
            "picture": asdict(budget.picture),
            "images_counted": budget.uncounted is None,
            **({} if budget.pairs is None else {"pairs": asdict(budget.pairs)}),
        },
        [_recipe(needs) for needs in budget.needs],
    )


def report(budget: RunBudget, rows: Mapping[str, object], recipes: Sequence[Mapping[str, object]]) -> str:
    """A budget as one JSON object, ASCII only.

    Args:
        budget: what is known.
        rows: by their keys the values about what a row is.
        recipes: an object for each way to train.
    """
    found = {
        "model_id": budget.model_id,
        "model_type": budget.model_type,
        "precision": budget.precision,
        "activation_checkpointing": budget.checkpointing,
        "gpus": asdict(budget.plan),
        **rows,
        "recipes": recipes,
        "refused": [{"name": r.recipe.name, "reason": r.reason} for r in budget.refused],
    }
    return json.dumps(found, indent=2) + "\n"


def _recipe(needs: Needs) -> dict[str, object]:
    def apart(rows: int) -> dict[str, object]:
        found = {"logits": needs.head(rows), "logits_of_a_plain_head": needs.plain_head(rows)}
        asked = {} if needs.reference is None else {"reference": needs.reference(max(rows, needs.least))}
        return {**found, **asked}

    made = recipe(needs, apart)
    return made if not needs.copies else {**made, "reference_copies": needs.copies}


def recipe(needs: StepNeeds, apart: Callable[[int], Mapping[str, object]]) -> dict[str, object]:
    """What a way to train needs.

    Args:
        needs: in bytes.
        apart: what is measured apart of a micro-batch of so many rows.
    """
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
            "on_other_gpus": needs.ranks.elsewhere,
            "gathered": needs.ranks.gathered,
            "between_steps": needs.resident,
        },
        "micro_batches": [_micro_batch(needs, rows, on, apart) for on in (True, False) for rows in ROWS],
        "gpus": [_gpu(needs, index) for index in range(len(GPUS))],
        "disk": {"adapter": needs.adapter, "checkpoint": needs.checkpoint},
    }


def _micro_batch(
    needs: StepNeeds, rows: int, checkpointing: bool, apart: Callable[[int], Mapping[str, object]]
) -> dict[str, object]:
    return {
        "rows": rows,
        "activation_checkpointing": checkpointing,
        "activations": needs.kept(rows, checkpointing=checkpointing),
        **apart(rows),
        "peak": needs.peak(rows, checkpointing=checkpointing),
        "total": needs.total(rows, checkpointing=checkpointing),
    }


def _gpu(needs: StepNeeds, index: int) -> dict[str, object]:
    return {
        **asdict(GPUS[index]),
        "usable": GPUS[index].usable,
        "most_rows": fitting(needs, index, checkpointing=True),
        "most_rows_without_checkpointing": fitting(needs, index, checkpointing=False),
    }
