"""Tests of the forms in vlm_lit/data/README.md: each example is a file that gives one conversation to learn."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

import vlm_lit
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings

README = (Path(vlm_lit.__file__).parent / "data" / "README.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^\| ([^|]+) \| `(\{.*\})` \|", README, re.MULTILINE))


def test_the_table_is_there() -> None:
    assert len(EXAMPLES) >= 14


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize("form", EXAMPLES)
def test_an_example_is_one_conversation_about_its_picture(form: str, ending: str, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    record = json.loads(EXAMPLES[form])
    (tmp_path / f"train.{ending}").write_text(json.dumps([record] if ending == "json" else record))
    data = open_source(
        SourceSettings(path=str(tmp_path / f"train.{ending}")),
        prompt=None,
        system=None,
        requires_answer=True,
        check_images=True,
    )
    assert isinstance(data, ConversationDataset)
    assert len(data) == 1
    conversation = data[0]
    assert [ref.path for ref in conversation.images] == [tmp_path / "a.png"]
    assert conversation.turns[-1].role == "assistant"
    assert conversation.turns[-1].text == "yes"
    assert conversation.turns[-1].supervised
    assert not conversation.notes, "a key of the example is not used"
    words = "".join(turn.text for turn in conversation.turns[:-1])
    assert "<image>" not in words
    assert form == "caption" or "Is it red?" in words
