"""Parameters of classes, read from their source files: importing them takes seconds.

A parameter's name, annotation, default and words are those that jsonargparse would find by importing the class. Only
what stands in the source in so many words is known; whoever asks for more must import.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from inspect import cleandoc

from vlm_lit.commands.sources import Named, defined, find_class, folder_of, last_word, tree_of

__all__ = [
    "Named", "Parameter", "bases", "find_class", "first_words", "lineage", "method_parameters", "own_classes",
    "parameters",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a class or method.

    Args:
        name: its name.
        module: where it is written, which says what the names in its annotation mean.
        annotation: its type, as written.
        default: its default, as written; None where it must be given.
        help: its words in the docstring.
    """

    name: str
    module: str
    annotation: ast.expr | None
    default: ast.expr | None
    help: str

    @property
    def kinds(self) -> list[ast.expr]:
        """The members of its annotation where that is a union, names of types resolved to what they stand for."""
        return list(_members(self.module, self.annotation)) if self.annotation is not None else []

    @property
    def settings(self) -> Named | None:
        """The settings class that the value is a mapping of, where it can be nothing else but null."""
        kinds = [kind for kind in self.kinds if not _is_none(kind)]
        found = defined(self.module, kinds[0]) if len(kinds) == 1 else None
        return found if found is not None and _is_dataclass(found.node) else None

    @property
    def choices(self) -> list[str] | None:
        """The words that may be written, where nothing else may but null."""
        words: list[str] = []
        for kind in self.kinds:
            if _is_none(kind):
                continue
            if not (isinstance(kind, ast.Subscript) and last_word(kind.value) == "Literal"):
                return None
            entries = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]
            words += [str(ast.literal_eval(entry)) for entry in entries]
        return list(dict.fromkeys(words)) or None

    @property
    def is_plain(self) -> bool:
        """Whether the value is a number, a text or a truth value, with nothing inside it."""
        plain = ("int", "float", "str", "bool", "Literal")
        return bool(self.kinds) and all(
            _is_none(k) or last_word(k.value if isinstance(k, ast.Subscript) else k) in plain for k in self.kinds
        )

    @property
    def takes_null(self) -> bool:
        """Whether null may be written."""
        return any(map(_is_none, self.kinds))


def parameters(found: Named) -> list[Parameter]:
    """What a class is made from: its constructor's parameters or its fields, those of the base where it passes them on.

    `found` must be a class.
    """
    assert isinstance(found.node, ast.ClassDef)
    if _is_dataclass(found.node):
        return _fields(found)
    taken: dict[str, Parameter] = {}
    for one in resolution_order(found):
        assert isinstance(one.node, ast.ClassDef)
        made = _function(one.node, "__init__")
        if made is None:
            continue
        for parameter in _arguments(one.module, made, _words(one.node) | _words(made)):
            below = taken.setdefault(parameter.name, parameter)
            if not below.help:
                taken[parameter.name] = replace(below, help=parameter.help)
        if made.args.kwarg is None:
            break
    return list(taken.values())


def method_parameters(found: Named, name: str) -> list[Parameter]:
    """The parameters of a class's own method."""
    assert isinstance(found.node, ast.ClassDef)
    made = _function(found.node, name)
    assert made is not None
    return list(_arguments(found.module, made, _words(made)))


def first_words(found: Named) -> str:
    """The first sentence of a class's docstring."""
    assert isinstance(found.node, ast.ClassDef)
    return " ".join((ast.get_docstring(found.node) or "").split("\n\n")[0].split())


def bases(found: Named) -> list[Named]:
    """The classes that a class is made on, as far as their sources are found."""
    assert isinstance(found.node, ast.ClassDef)
    named = [defined(found.module, base) for base in _bases(found.node)]
    return [base for base in named if base is not None and isinstance(base.node, ast.ClassDef)]


def resolution_order(found: Named) -> list[Named]:
    """A class and all it is made on, in the order in which Python asks them for a method (C3)."""
    above = bases(found)
    rows = [*map(resolution_order, above), above]
    order = [found]
    while any(rows):
        rows = [row for row in rows if row]
        later = {one.class_path for row in rows for one in row[1:]}
        first = next((row[0] for row in rows if row[0].class_path not in later), rows[0][0])
        order.append(first)
        rows = [[one for one in row if one.class_path != first.class_path] for row in rows]
    return order


def lineage(found: Named) -> Iterator[str]:
    """The names of a class and of all it is made on."""
    assert isinstance(found.node, ast.ClassDef)
    yield found.node.name
    for base in _bases(found.node):
        inner = defined(found.module, base)
        if inner is not None and isinstance(inner.node, ast.ClassDef):
            yield from lineage(inner)
        else:
            yield last_word(base)


def own_classes(package: str, base: str | None = None) -> dict[str, Named]:
    """The public classes of a package by dotted name: all, or those made on a class called `base` and not abstract."""
    root = folder_of(package)
    found = {}
    for file in sorted(root.rglob("*.py")) if root is not None else []:
        text = file.read_text(encoding="utf-8")
        inner = file.relative_to(root).with_suffix("").parts if root is not None else ()
        module = ".".join([package, *(part for part in inner if part != "__init__")])
        # Most files need no closer look.
        heads = r"^class \w" if base is None else r"^class \w+[\[(].*\w"
        for node in tree_of(module).body if re.search(heads, text, re.MULTILINE) else []:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                one = Named(module, node)
                if base is None or (base in list(lineage(one))[1:] and "ABC" not in map(last_word, node.bases)):
                    found[one.class_path] = one
    return found


# What a source says --------------------------------------------------------------------------------------------------


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _bases(node: ast.ClassDef) -> list[ast.expr]:
    """What a class is made on; of `Base[Item]` the class `Base`."""
    return [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]


def _function(made: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((node for node in made.body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _is_dataclass(node: ast.AST) -> bool:
    decorators = node.decorator_list if isinstance(node, ast.ClassDef) else []
    return any(last_word(d.func if isinstance(d, ast.Call) else d) == "dataclass" for d in decorators)


def _members(module: str, kind: ast.expr) -> Iterator[ast.expr]:
    """The members of a union, however it is written."""
    if isinstance(kind, ast.BinOp) and isinstance(kind.op, ast.BitOr):
        yield from _members(module, kind.left)
        yield from _members(module, kind.right)
    elif isinstance(kind, ast.Subscript) and last_word(kind.value) in ("Union", "Optional"):
        for part in kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]:
            yield from _members(module, part)
        if last_word(kind.value) == "Optional":
            yield ast.Constant(None)
    else:
        found = defined(module, kind)
        alias = found.node if found is not None else None
        if found is not None and isinstance(alias, ast.Subscript | ast.BinOp):
            yield from _members(found.module, alias)
        else:
            yield kind


def _arguments(module: str, made: ast.FunctionDef, words: dict[str, str]) -> Iterator[Parameter]:
    given = made.args
    places = [*given.posonlyargs, *given.args][1:]
    missing: list[ast.expr | None] = [None] * (len(places) - min(len(given.defaults), len(places)))
    for argument, default in [
        *zip(places, [*missing, *given.defaults], strict=True),
        *zip(given.kwonlyargs, given.kw_defaults, strict=True),
    ]:
        yield Parameter(
            name=argument.arg,
            module=module,
            annotation=argument.annotation,
            default=_written_out(module, default),
            help=words.get(argument.arg, ""),
        )


def _written_out(module: str, default: ast.expr | None) -> ast.expr | None:
    """A default that is a constant by name, as the value that it stands for."""
    found = defined(module, default) if isinstance(default, ast.Name) else None
    return found.node if found is not None and isinstance(found.node, ast.Constant) else default


def _fields(found: Named) -> list[Parameter]:
    assert isinstance(found.node, ast.ClassDef)
    words = _words(found.node)
    return [
        Parameter(
            name=node.target.id,
            module=found.module,
            annotation=node.annotation,
            default=_field_default(node.value),
            help=words.get(node.target.id, ""),
        )
        for node in found.node.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def _field_default(value: ast.expr | None) -> ast.expr | None:
    """The default behind `field(default_factory=...)`."""
    if not (isinstance(value, ast.Call) and last_word(value.func) == "field"):
        return value
    for keyword in value.keywords:
        if keyword.arg == "default":
            return keyword.value
        if keyword.arg == "default_factory":
            factory = keyword.value
            empty = {"list": ast.List([], ast.Load()), "dict": ast.Dict([], [])}
            return factory.body if isinstance(factory, ast.Lambda) else empty.get(last_word(factory), factory)
    return None


def _words(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """What the `Args:` of a docstring say, each in one line; of several paragraphs the first."""
    text = cleandoc(ast.get_docstring(node) or "")
    found = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", found[1] if found else "", re.MULTILINE | re.DOTALL)
    return {name: " ".join(words.split("\n\n")[0].split()) for name, words in entries}
