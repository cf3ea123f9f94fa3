"""Test that `models/families.py` alone knows module paths and auto classes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from vlm_lit.models.families import FAMILIES, PART_NAMES

_PACKAGE: Final = Path(__file__).parents[2] / "vlm_lit"
_PLACE: Final = _PACKAGE / "models" / "families.py"

_PATHS: Final = {root for family in FAMILIES.values() for part in PART_NAMES for root in family.roots(part)} | {
    family.decoder_layers for family in FAMILIES.values()
}
_AUTO_CLASS: Final = re.compile(r"Auto(Backbone|Model)(For\w+)?|MODEL_FOR_\w+_MAPPING(_NAMES)?|MODEL_MAPPING\w*")


def told_elsewhere(source: str) -> Iterator[str]:
    """What a source says of module paths and auto classes, outside of what it writes for people to read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("get_submodule", "get_parameter") and isinstance(node.args[0], ast.Constant):
                yield f"{node.lineno}: {node.func.attr}({node.args[0].value!r})"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            said = node.value
            if any(said == path or said.startswith(f"{path}.") for path in _PATHS):
                yield f"{node.lineno}: {said!r}"
        elif isinstance(node, ast.Name) and _AUTO_CLASS.fullmatch(node.id):
            yield f"{node.lineno}: {node.id}"
        elif isinstance(node, ast.Attribute) and _AUTO_CLASS.fullmatch(node.attr):
            yield f"{node.lineno}: {node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.lineno}: {name.name}" for name in node.names if _AUTO_CLASS.fullmatch(name.name))


def test_no_other_file_names_a_module_path_or_an_auto_class() -> None:
    found = {
        str(file.relative_to(_PACKAGE)): list(told_elsewhere(file.read_text(encoding="utf-8")))
        for file in sorted(_PACKAGE.rglob("*.py"))
        if file != _PLACE
    }
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        'backbone = base.get_submodule("model")',
        'tower = modules["model.vision_tower"]',
        'head = "lm_head"',
        "model = AutoModelForImageTextToText.from_pretrained(name)",
        "from transformers import AutoModelForImageTextToText",
        "import transformers\nmodel = transformers.AutoModel",
    ],
)
def test_each_way_to_name_one_is_seen(line: str) -> None:
    assert list(told_elsewhere(line))


def test_the_facts_themselves_are_seen() -> None:
    assert len(list(told_elsewhere(_PLACE.read_text(encoding="utf-8")))) > len(_PATHS)
