"""Tests of the package's shape: one class of a name, short files, plain first lines, no two files in a circle."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import vlm_lit

ROOT = Path(vlm_lit.__file__).parent
MOST_LINES = 320

LONG: dict[str, str] = {"vlm_lit.schema": "the nouns of the whole journey, in one place"}
"""Files that may be longer, and why."""

TYPES_ALONE: set[tuple[str, str]] = set()
"""Imports for the type checker, or within a function, that may close a circle."""

FILES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 200
    assert {"vlm_lit", "vlm_lit.schema", "vlm_lit.metrics.anls"} <= FILES.keys()


def test_no_two_classes_have_one_name() -> None:
    places = defaultdict(set)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(name)
    assert {kind: found for kind, found in places.items() if len(found) > 1} == {}


def test_files_are_short() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES and name not in LONG} == {}
    assert [name for name in LONG if lines.get(name, 0) <= MOST_LINES] == []  # an exception that is none any more


def test_a_module_says_what_it_is_and_asks_nothing() -> None:
    first = {name: (ast.get_docstring(tree) or "").split("\n")[0] for name, tree in TREES.items()}
    assert [name for name, line in first.items() if not line or line.endswith("?")] == []


# Imports --------------------------------------------------------------------------------------------------------


def imports(name: str, tree: ast.Module) -> set[str]:
    """The files that a file imports, within functions and for the type checker as well; packages that hold it aside."""
    found: set[str] = set()
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (parent, node.module or "") if part)
            inside = {f"{source}.{alias.name}" for alias in node.names}
            found |= inside & FILES.keys() or {source}
    return {other for other in found & FILES.keys() if other != name and not name.startswith(f"{other}.")}


IMPORTS = {name: imports(name, tree) for name, tree in TREES.items()}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of files that reach each other (strongly connected components, Tarjan 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            group = stack[stack.index(name) :]
            del stack[-len(group) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in number:
            visit(name)
    return found


def test_no_two_files_import_each_other_in_a_circle() -> None:
    assert sum(map(len, IMPORTS.values())) > 500
    allowed = {name: {other for other in found if (name, other) not in TYPES_ALONE} for name, found in IMPORTS.items()}
    assert circles(allowed) == []
    # None is an exception any more that closes no circle.
    together = {name: group for group in circles(IMPORTS) for name in group}
    assert [pair for pair in TYPES_ALONE if pair[1] not in together.get(pair[0], [])] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from vlm_lit.metrics.anls import ANLS", {"vlm_lit.metrics.anls"}),
        ("def f():\n    from vlm_lit.metrics import anls", {"vlm_lit.metrics.anls"}),
        ("if TYPE_CHECKING:\n    import vlm_lit.schema", {"vlm_lit.schema"}),
        ("from . import rules", {"vlm_lit.metrics.rules"}),
        ("from ..schema import Turn", {"vlm_lit.schema"}),
        ("import json\nfrom torch import nn", set()),
    ],
)
def test_imports_are_found_wherever_they_stand(text: str, expected: set[str]) -> None:
    assert imports("vlm_lit.metrics.vqa_accuracy", ast.parse(text)) == expected


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert circles(graph) == [["d", "e"], ["a", "b", "c"]]
