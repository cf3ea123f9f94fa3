"""The JSON form of an inspection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from vlm_lit.models.parts import PartRow
from vlm_lit.preflight.inspection.report import Inspected, Inspection
from vlm_lit.preflight.inspection.run_report import RunInspection


def as_json(inspection: Inspection, more: Mapping[str, object] = MappingProxyType({})) -> str:
    """The inspection as one JSON object, ASCII only; `more` are values by their keys that come first."""
    return report(
        inspection,
        {
            **more,
            "conversations": [_conversation(inspected) for inspected in inspection.conversations],
            "dropped": [
                {"id": misfit.conversation.id, "reason": misfit.reason}
                for misfit in inspection.misfits
                if misfit.outcome == "dropped"
            ],
        },
    )


def report(inspection: RunInspection, looked_at: Mapping[str, object]) -> str:
    """A report as one JSON object.

    Args:
        inspection: what was found.
        looked_at: by their keys the values about the items that were looked at.
    """
    found: dict[str, object] = {
        "parts": [_part(row) for row in inspection.parts],
        **looked_at,
        "gradient_flow": {
            "unmoved_trainable": list(inspection.gradients.unmoved_trainable),
            "moved_frozen": inspection.gradients.moved_frozen,
        },
    }
    if findings := list(inspection.findings.lines()):
        found["findings"] = findings
    return json.dumps(found, indent=2) + "\n"


def _part(row: PartRow) -> dict[str, object]:
    return {
        "part": row.part,
        "parameters": row.parameters,
        "trainable": row.trainable,
        "precision": row.precision,
        "modules_4bit": row.modules_4bit,
        "lr": row.lr,
    }


def _conversation(inspected: Inspected) -> dict[str, object]:
    return {
        "id": inspected.id,
        "tokens": inspected.supervision.tokens,
        "supervised": list(inspected.supervision.supervised),
        "end_of_turn": list(inspected.supervision.end_of_turn),
        "image_placeholders": inspected.images.placeholders,
        "image_features": inspected.images.features,
    }
