"""Every private or young name that is borrowed from another library, with the files that use it.

Such names change without notice. After an upgrade this test lists what has gone and which files to visit. A private
name of another library that is used anywhere without standing here fails as well.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parent.parent
_SOURCES: Final = [*sorted((_ROOT / "vlm_lit").rglob("*.py")), *sorted((_ROOT / "scripts").rglob("*.py"))]


@dataclass(frozen=True)
class Borrowed:
    """One name of another library.

    Args:
        owner: `module` or `module:Class` in which it is to be found.
        name: the attribute; or words that stand in the owner's source, where `words` is set.
        files: who uses it.
        words: `name` is a text in the owner's source: an attribute that is set in a constructor, or a message.
    """

    owner: str
    name: str
    files: tuple[str, ...]
    words: bool = False

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"[:90]


_LIGHTNING: Final = "vlm_lit/commands/lightning.py"
_PARSING: Final = "vlm_lit/commands/parsing.py"
_ERRORS: Final = "jsonargparse._typehints"

BORROWED: Final = (
    # Lightning ---------------------------------------------------------------------------------------------------
    Borrowed("lightning.pytorch.cli:LightningCLI", "_parse_ckpt_path", (_LIGHTNING,)),
    Borrowed("lightning.pytorch.cli:LightningCLI", "_run_subcommand", (_LIGHTNING,)),
    Borrowed("lightning.pytorch.cli:LightningCLI", "_parser", (_LIGHTNING,)),
    Borrowed("lightning.pytorch.cli:LightningCLI", "_get", (_LIGHTNING,)),
    Borrowed(
        "lightning.pytorch.loops.training_epoch_loop:_TrainingEpochLoop",
        "self._batches_that_stepped",
        ("vlm_lit/training/callbacks/pass_schedule.py",),
        words=True,
    ),
    # jsonargparse ------------------------------------------------------------------------------------------------
    Borrowed("jsonargparse._core:ArgumentParser", "_subcommands_action", (_PARSING,), words=True),
    Borrowed("jsonargparse._actions:_ActionSubCommands", "_name_parser_map", (_PARSING,), words=True),
    Borrowed("jsonargparse._typehints:ActionTypeHint", "_typehint", (_PARSING,), words=True),
    Borrowed("argparse:ArgumentParser", "_actions", (_PARSING,), words=True),
)


def found(borrowed: Borrowed) -> bool:
    """Whether the installed library still has it."""
    module, _, inner = borrowed.owner.partition(":")
    owner: object = importlib.import_module(module)
    if inner:
        owner = getattr(owner, inner)
    if borrowed.words:
        assert inspect.isclass(owner) or inspect.ismodule(owner)
        return borrowed.name in inspect.getsource(owner)
    return hasattr(owner, borrowed.name)


@pytest.mark.parametrize("borrowed", BORROWED, ids=str)
def test_what_is_borrowed_is_still_there(borrowed: Borrowed) -> None:
    assert found(borrowed), f"{borrowed} has gone. Visit {', '.join(borrowed.files)}."


@pytest.mark.parametrize("borrowed", BORROWED, ids=str)
def test_whoever_is_named_uses_it(borrowed: Borrowed) -> None:
    leaf = borrowed.name.removeprefix("self.")
    assert [file for file in borrowed.files if leaf not in (_ROOT / file).read_text(encoding="utf-8")] == []


def private_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The private names of others that a file uses: attributes, imports of private modules, `getattr` of a private."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner not in ("self", "cls"):
                yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for part in (node.module or "").split("."):
                if _is_private(part):
                    yield node.lineno, part
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            for argument in node.args[1:2]:
                if isinstance(argument, ast.Constant) and _is_private(str(argument.value)):
                    yield node.lineno, str(argument.value)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("path", _SOURCES, ids=lambda p: str(p.relative_to(_ROOT)))
def test_no_other_private_name_is_used(path: Path) -> None:
    here = str(path.relative_to(_ROOT))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # What a file's own classes define is its own, on whichever object it is asked for.
    own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    own |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    known = {b.name.removeprefix("self.").split(".")[-1] for b in BORROWED if here in b.files}
    known |= {part for b in BORROWED if here in b.files for part in b.owner.partition(":")[0].split(".")}
    assert [(line, name) for line, name in private_names(tree) if name not in own | known] == []
