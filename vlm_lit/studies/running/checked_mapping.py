"""Checked mapping of a user's YAML: each entry is there, known and of its kind, or an error says what to do."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Final

from vlm_lit.errors import ConfigError, nearest

_DOTTED: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\+?")
# Every cell has its own of these.
_OWN: Final = {"seed_everything": "seeds", "run_dir": "folder", "config": "config", "ckpt_path": ""}


def in_words(value: object) -> str:
    """A value as an error shows it: one line, cut where it is long."""
    return shorten(repr(value), 60, placeholder=" ...")


def as_name(value: object) -> str:
    """What a plain value is called: text as it stands; a number or true, false, null as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


class Checked:
    """A mapping from a YAML file whose entries are asked for by kind.

    Args:
        content: what was read; anything but a mapping with text as keys is refused.
        file: where it stands; files that it names are relative to it.
        place: the dotted key it stands under, for errors; empty at the top.
    """

    def __init__(self, content: object, file: Path, place: str) -> None:
        self.file, self.place = file, place
        if not isinstance(content, dict):
            raise self.error("", f"is {in_words(content)}", "It must be a mapping, written name: value")
        # A level may be called 16 or true; which key a name is, is told by its text.
        self._content: dict[str, object] = {as_name(key): value for key, value in content.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def error(self, key: str, problem: str, remedy: str) -> ConfigError:
        """The error about one key; without a key, about this mapping."""
        where = ".".join(part for part in (self.place, key) if part)
        stop = "" if remedy.endswith("?") else "."
        return ConfigError(f"{self.file}: {where or 'the study'} {problem}. {remedy}{stop}")

    def known(self, *names: str, what: str = "key") -> None:
        """Refuse any key but these."""
        for key in self._content:
            if key not in names:
                near = nearest(key, names)
                remedy = f"Did you mean {near}?" if near else f"There are: {', '.join(names)}"
                raise self.error(key, f"is no {what}", remedy)

    def one_of(self, key: str, name: str, names: Sequence[str], *, what: str) -> None:
        """Refuse a value that is none of these."""
        if name not in names:
            near = nearest(name, names)
            hint = f"Did you mean {near}? " if near else ""
            raise self.error(key, f"is {name}, which is no {what}", f"{hint}There are: {', '.join(names)}")

    def value(self, key: str) -> object:
        """What stands there."""
        if key not in self._content:
            raise self.error(key, "is missing", "Add it")
        return self._content[key]

    def text(self, key: str) -> str:
        """Text that is not empty; white space at its ends is dropped, a line break within is a space."""
        value = self.value(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"is {in_words(value)}", "It must be text")
        return " ".join(value.split())

    def number(self, key: str, *, least: float = -math.inf, most: float = math.inf) -> float:
        """A finite number between two others."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            span = "" if least == -math.inf else f" from {least:g} to {most:g}"
            raise self.error(key, f"is {in_words(value)}", f"It must be a number{span}")
        return float(value)

    def whole(self, key: str, *, least: int) -> int:
        """A whole number."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.error(key, f"is {in_words(value)}", f"It must be a whole number from {least} up")
        return value

    def flag(self, key: str) -> bool:
        """True or false; false where it is missing."""
        value = self._content.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, f"is {in_words(value)}", "It must be true or false")
        return value

    def choice(self, key: str, names: Sequence[str]) -> str:
        """One of some words."""
        value = self.text(key)
        self.one_of(key, value, names, what=key)
        return value

    def list(self, key: str) -> list[object]:
        """A list."""
        value = self.value(key)
        if not isinstance(value, list):
            raise self.error(key, f"is {in_words(value)}", "It must be a list, written [a, b]")
        return value

    def inner(self, key: str) -> Checked:
        """A mapping within this one."""
        return Checked(self.value(key), self.file, f"{self.place}.{key}".lstrip("."))

    def entries(self, key: str) -> Iterator[tuple[str, Checked]]:
        """Mappings by name: those under `key`, none where it is missing; without a key, those of this one."""
        if key and key not in self:
            return
        within = self.inner(key) if key else self
        for name in within._content:
            yield name, within.inner(name)

    def items(self, key: str) -> Iterator[Checked]:
        """The mappings of a list; none where it is missing."""
        for index, entry in enumerate(self.list(key) if key in self else []):
            yield Checked(entry, self.file, f"{self.place}.{key}[{index}]".lstrip("."))

    def files(self, key: str, *, least: int = 0) -> tuple[Path, ...]:
        """Config files, one or a list, that are there; paths are relative to this file."""
        value = self._content.get(key, [])
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or len(names) < least or not all(isinstance(name, str) for name in names):
            raise self.error(key, f"is {in_words(value)}", "It must be a config file, or a list of them")
        return tuple(self._file(key, name) for name in names)

    def _file(self, key: str, name: str) -> Path:
        path = self.file.parent / name
        if not path.is_file():
            near = nearest(path.name, [other.name for other in path.parent.glob("*.yaml")])
            hint = f"Did you mean {near}? " if near else ""
            raise self.error(key, f"names {name}, which is not there", f"{hint}Paths are relative to the study file")
        return path

    def settings(self, key: str) -> dict[str, object]:
        """Settings by dotted key, as on the command line; none where it is missing."""
        return self.dotted(self.inner(key)._content, key) if key in self else {}

    def dotted(self, settings: Mapping[str, object], key: str) -> dict[str, object]:
        """The settings, each of whose names is a dotted key that is not a cell's own."""
        for name in settings:
            if not _DOTTED.fullmatch(name):
                raise self.error(key, f"has {in_words(name)}", "A setting is a dotted key, as trainer.max_epochs")
            if name in _OWN:
                remedy = f"Use the study's {_OWN[name]}" if _OWN[name] else "Leave it out"
                raise self.error(key, f"sets {name}, which each cell has its own of", remedy)
        return dict(settings)
