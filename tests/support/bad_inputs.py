"""The reason why a data file cannot be trained on, found as a run finds it, and small records to spoil."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from vlm_lit.data.images.images import load_images
from vlm_lit.data.records.conversation_dataset import open_source
from vlm_lit.data.records.preference_dataset import open_preferences
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.records.streamed_steps import StreamedSteps
from vlm_lit.data.rows.class_encoding import question_of
from vlm_lit.errors import RecordError

Fields = dict[str, Any]
Task = Literal["conversations", "pairs", "questions"]

CONVERSATION: Final[Fields] = {
    "id": "a",
    "image": "a.png",
    "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Red."}],
}
PAIR: Final[Fields] = {"id": "a", "image": "a.png", "prompt": "What?", "chosen": "Red.", "rejected": "Blue."}
QUESTION: Final[Fields] = {"id": "a", "image": "a.png", "question": "What?", "answers": ["red"]}


def code_of(path: Path, task: Task) -> str | None:
    """The reason code of the first thing that is wrong with a data file; None where all of it can be used."""
    try:
        _read(path, task)
    except RecordError as found:
        return found.code
    return None


def _read(path: Path, task: Task) -> None:
    source = SourceSettings(path=str(path))
    if task == "pairs":
        pairs = open_preferences(source, prompt=None, system=None, training=True, check_images=True)
        assert not isinstance(pairs, StreamedSteps)
        for k in range(len(pairs)):
            load_images(pairs[k])
        return
    found = open_source(source, prompt=None, system=None, requires_answer=True, check_images=True)
    assert not isinstance(found, StreamedSteps)
    for k in range(len(found)):
        load_images(found[k])
        if task == "questions":
            question_of(found[k])


def write_records(folder: Path, records: object) -> Path:
    """A data file beside its picture."""
    path = folder / "data.json"
    path.write_text(json.dumps(records), encoding="utf-8", errors="surrogatepass")
    return path
