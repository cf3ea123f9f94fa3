"""Words for the workbench's objects, in both of its languages: what tells which of them an answer names.

The file is the table that the metric `chair` reads: `--options.objects workbench/objects.json`.
"""

from __future__ import annotations

from typing import Final

from vlm_lit.workbench.dialect import PART_CODES
from vlm_lit.workbench.questions import plural
from vlm_lit.workbench.world import KINDS

OBJECTS_FILE: Final = "objects.json"

OBJECT_WORDS: Final[dict[str, list[str]]] = {
    kind: list(dict.fromkeys((kind, plural(kind), PART_CODES[kind]))) for kind in KINDS
}
"""Each kind with its words: itself, its plural and the team's code of it."""
