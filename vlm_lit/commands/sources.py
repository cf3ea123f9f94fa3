"""Search for a dotted name in the source files, through their imports, without importing any."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_MOST_STEPS: Final = 12
"""Longest chain of imports that is followed to where a name is defined."""


@dataclass(frozen=True)
class Named:
    """A name of a module's source, and what stands there for it."""

    module: str
    node: ast.AST

    @property
    def class_path(self) -> str:
        """The dotted name, for a class."""
        assert isinstance(self.node, ast.ClassDef)
        return f"{self.module}.{self.node.name}"


def find_class(path: str) -> Named | None:
    """The class of a dotted name; None where no source of it is found."""
    module, _, name = path.rpartition(".")
    found = _follow(module, name) if module and name.isidentifier() else None
    return found if found is not None and isinstance(found.node, ast.ClassDef) else None


def defined(module: str, expression: ast.expr | str) -> Named | None:
    """What a name in a module's source stands for, through its imports."""
    text = expression if isinstance(expression, str) else ast.unparse(expression)
    if not re.fullmatch(r"\w+(\.\w+)*", text):
        return None
    first, _, rest = text.partition(".")
    if not rest:
        return _follow(module, first)
    imported = _imports(module).get(first)  # `lightning.Trainer` after `import lightning`
    owner, _, name = text.rpartition(".")
    return _follow(imported[0] + owner[len(first) :], name) if imported and imported[1] is None else None


def last_word(node: ast.AST) -> str:
    """The last word of a dotted name; nothing for another expression."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@cache
def folder_of(package: str) -> Path | None:
    """The folder of a package of the top level. Nothing is imported."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or [])
    return Path(places[0]) if places else Path(spec.origin or "").with_suffix("")


@cache
def tree_of(module: str) -> ast.Module:
    """A module's source; an empty one where there is none."""
    top, *inner = module.split(".")
    root = folder_of(top)
    place = root.joinpath(*inner) if root is not None else Path()
    for file in (place / "__init__.py", place.with_suffix(".py") if place.name else place):
        if root is not None and file.is_file():
            try:
                return ast.parse(file.read_text(encoding="utf-8"))
            except (SyntaxError, ValueError):
                break
    return ast.Module(body=[], type_ignores=[])


@cache
def _imports(module: str) -> dict[str, tuple[str, str | None]]:
    """What a module imports: for each name its module, and its name there (None for the module itself)."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in _statements(tree_of(module).body):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                a.asname or a.name.split(".")[0]: (a.name if a.asname else a.name.split(".")[0], None)
                for a in node.names
            }
    return found


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under `if TYPE_CHECKING` among them."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _statements(node.body)


def _follow(module: str, name: str) -> Named | None:
    for _ in range(_MOST_STEPS):
        for node in _statements(tree_of(module).body):
            if isinstance(node, ast.ClassDef) and node.name == name:
                return Named(module, node)
            if isinstance(node, ast.Assign) and any(last_word(target) == name for target in node.targets):
                return Named(module, node.value)
            if isinstance(node, ast.AnnAssign) and last_word(node.target) == name and node.value is not None:
                return Named(module, node.value)
        imported = _imports(module).get(name)
        if imported is None or imported[1] is None:
            break
        module, name = imported[0], imported[1]
    return None
