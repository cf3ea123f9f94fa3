"""Nulls of a command line, written so that the parser keeps them.

jsonargparse hands a setting inside settings (`--data.init_args.train.limit=null`) down as the text `None`, which a
field that may be text takes for a file of that name. Inside a mapping it stays null, and mappings are merged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

NULLS: Final = ("null", "~")
_SECTIONS: Final = ("model", "data")


def with_nulls(arguments: Sequence[str]) -> list[str]:
    """The same command line, in which a null inside a setting is one.

    Args:
        arguments: the words behind the verb.
    """
    return list(_rewritten(arguments))


def _rewritten(arguments: Sequence[str]) -> Iterator[str]:
    taken = False
    for word, following in pairwise([*arguments, ""]):
        if taken:
            taken = False
            continue
        option, equals, value = word.partition("=")
        value = value if equals else following
        place = _place(option) if word.startswith("--") and value in NULLS else None
        if place is None:
            yield word
            continue
        setting, inner = place
        mapping: object = None
        for name in reversed(inner):
            mapping = {name: mapping}
        yield f"{setting}={json.dumps(mapping)}"
        taken = not equals


def _place(option: str) -> tuple[str, list[str]] | None:
    """The setting of the model or data that an option lies in, and the names inside; None where it is the setting."""
    names = option.removeprefix("--").split(".")
    outer = 3 if names[1:2] == ["init_args"] else 2
    if names[0] not in _SECTIONS or len(names) <= outer or "init_args" in names[outer:]:
        return None
    return "--" + ".".join(names[:outer]), names[outer:]
