"""Strict YAML reading: nothing in the file is silently changed.

PyYAML keeps the last of two equal keys, takes `.nan` for a number, makes a date of what looks like one, reads `yes`,
`no`, `on` and `off` as truth values, 12:30 as 750, 010 as 8 and 1e-4 as text. Here the first two are mistakes; dates,
yes, no, on, off, 12:30 and 010 are text, as in YAML 1.2, and 1e-4 is the number.

A few lines whose names (`&a`, `*a`) repeat each other stand for more values than a computer holds. What a file stands
for is counted before anything is made of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from vlm_lit.errors import ConfigError

_TAG: Final = "tag:yaml.org,2002:"
MAX_VALUES: Final = 100_000
"""Values that a file may stand for, each repetition by a name counted."""

MAX_DEPTH: Final = 64
"""Levels of nesting. A config has six."""

MAX_BYTES: Final = 200_000
"""Of a text. The longest config here has 8,000; a longer one than this takes seconds to read."""

_OUR_OWN: Final = {f"{_TAG}{kind}" for kind in ("timestamp", "bool", "int", "float")}


class StrictLoader(yaml.SafeLoader):
    """YAML in which a key written twice or a number that is not finite is a mistake, and words and dates are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [(tag, pattern) for tag, pattern in pairs if tag not in _OUR_OWN]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._level = 0
        self._sizes: dict[yaml.Node, int] = {}
        if len(stream) > MAX_BYTES:
            raise ComposerError(None, None, f"a text of {len(stream):,} bytes, where at most {MAX_BYTES:,} are read")

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Make the tree of a value.

        Raises:
            ComposerError: it is nested too deep, holds itself, or stands for too many values.
        """
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        self._level += 1
        if self._level > MAX_DEPTH:
            raise ComposerError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._level -= 1
        if isinstance(event, yaml.AliasEvent) and node not in self._sizes:
            raise ComposerError(None, None, f"the value {event.anchor} holds itself", mark)
        if node is not None and node not in self._sizes:
            self._sizes[node] = 1 + sum(self._sizes[held] for held in _held(node))
            if self._sizes[node] > MAX_VALUES:
                raise ComposerError(None, None, f"it stands for more than {MAX_VALUES:,} values", mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Make a mapping's keys and values.

        Raises:
            ConstructorError: a key stands there twice.
        """
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise ConstructorError(None, None, f"the key {key} stands there a second time", key_node.start_mark)
            seen |= {key} if isinstance(key, Hashable) else set()
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Make a number.

        Raises:
            ConstructorError: it is not finite.
        """
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise ConstructorError(None, None, f"{node.value} is not a finite number", node.start_mark)
        return value


def _held(node: yaml.Node) -> list[yaml.Node]:
    """The keys and values of a mapping, the items of a list."""
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


StrictLoader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
StrictLoader.add_implicit_resolver(
    f"{_TAG}int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)$"), list("-+0123456789")
)
StrictLoader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_yaml_float)


def loading_problem(error: Exception) -> str:
    """Where a text is no YAML, and why, in the words of PyYAML: `, line 3: the key a stands there a second time`."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error).split("\n")[0]
    where = f", line {mark.line + 1}" if mark is not None else ""
    return f"{where}: {problem}"


def read_strict(path: Path, kind: str) -> object:
    """What a YAML file holds. `kind` is what messages call it: the "config" or the "study" file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        content: object = yaml.load(path.read_text(encoding="utf-8"), Loader=StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: the {kind} file cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}{loading_problem(error)}. A {kind} file is plain data, each key once.") from error
    return content
