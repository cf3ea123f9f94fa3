"""Config files that a command line names, and the place of each setting in them. No heavy import."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import yaml
from yaml.composer import ComposerError

from vlm_lit.errors import ConfigError, nearest
from vlm_lit.files.strict_yaml import StrictLoader, loading_problem

COMMAND_LINE: Final = "the command line"
_MOST_FILES: Final = 100
_SUFFIXES: Final = (".yaml", ".yml")
_CONFIGS: Final = ("config", "c")
_SECTIONS: Final = ("trainer", "model", "data")


class ConfigFiles:
    """Where each setting of a command line stands: its files, read before anything else so that they can be named."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.places: dict[str, str] = {}
        self.values: dict[str, list[str]] = {}
        """What is written for each key that has a single word, in all places."""
        self.empty: list[str] = []
        self.sections: set[str] = set()
        """The keys whose value is a mapping."""
        self._read_so_far = 0
        for word, following in pairwise([*arguments, ""]):
            if is_option(word):
                option, _, value = word.lstrip("-").partition("=")
                self._option(option, value or following)

    def _option(self, option: str, value: str) -> None:
        self.places[plain(option)] = COMMAND_LINE
        self.values.setdefault(plain(option), []).append(value)
        node = _composed(option, value)
        # Any other setting may be a text that looks like a mapping, as a prompt `{question}` does.
        if isinstance(node, yaml.MappingNode) and (option in _SECTIONS or option.endswith(".init_args")):
            self._note(node, plain(option))
        if _names_file(option, value):
            self._read(Path(value), "" if option in _CONFIGS else option, COMMAND_LINE)

    def placed(self, message: str) -> str:
        """A message about the dotted key it begins with, after the file and line where that is set."""
        key = plain(message.split(" ", 1)[0])
        within = [place for name, place in self.places.items() if name == key or name.startswith(f"{key}.")]
        found = within[0] if within else self.places.get(key.rpartition(".")[0])
        return f"{found}: {message}" if found else message

    def _read(self, path: Path, prefix: str, named: str) -> None:
        if not path.is_file():
            near = nearest(str(path), map(str, path.parent.glob("*.yaml")))
            raise ConfigError(f"{named}: there is no config file {path}." + (f" Did you mean {near}?" if near else ""))
        self._read_so_far += 1
        if self._read_so_far > _MOST_FILES:
            raise ConfigError(
                f"{named}: more than {_MOST_FILES} files name one another. A part may not name its config."
            )
        try:
            loader = StrictLoader(path.read_text(encoding="utf-8"))
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise ConfigError(f"{path} is no config: write settings as `name: value`, one a line.")
            loader.construct_document(node)
            self._note(node, prefix, path)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{path}{loading_problem(error)}. A config is plain data, each key once.") from error

    def _note(self, node: yaml.MappingNode, prefix: str, path: Path | None = None) -> None:
        """Keep the places of a mapping's settings, one written on the command line where there is no file."""
        for name, value in node.value:
            key = plain(f"{prefix}.{name.value}".lstrip("."))
            self.places[key] = COMMAND_LINE if path is None else f"{path}, line {name.start_mark.line + 1}"
            for inner in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(inner, yaml.MappingNode):
                    self.sections.add(key)
                    self.empty += [] if inner.value else [key]
                    self._note(inner, key, path)
                elif isinstance(inner, yaml.ScalarNode) and inner.value.endswith(_SUFFIXES):
                    folder = Path() if path is None else path.parent
                    self._read(folder / inner.value, key, self.places[key])
                elif isinstance(inner, yaml.ScalarNode):
                    self.values.setdefault(key, []).append(inner.value)


def files_first(arguments: Sequence[str]) -> list[str]:
    """The same command line with its files in front, both in their own order: the later wins, so an option over all."""
    files: list[str] = []
    others: list[str] = []
    belongs: list[str] | None = None  # where the value of the option before goes
    for word, following in pairwise([*arguments, ""]):
        if belongs is None or is_option(word):
            option, equals, value = word.lstrip("-").partition("=")
            named = is_option(word) and _names_file(option, value if equals else following)
            target = files if named else others
            belongs = None if equals or not is_option(word) else target
        else:
            target, belongs = belongs, None
        target.append(word)
    return [*files, *others]


def _names_file(option: str, value: str) -> bool:
    """Whether an option names a file of settings: a whole config, or what a section holds."""
    return option in _CONFIGS or (option in _SECTIONS and value.endswith(_SUFFIXES))


def _composed(option: str, value: str) -> yaml.Node | None:
    """What a value of the command line is as YAML; None where it is none.

    Raises:
        ConfigError: what it stands for has no end, or nearly none, and would take hours to read.
    """
    try:
        return StrictLoader(value).get_single_node()
    except ComposerError as error:
        raise ConfigError(f"{COMMAND_LINE}: {option}{loading_problem(error)}. A setting is plain data.") from error
    except yaml.YAMLError:
        return None  # a text that is no YAML is a text


def is_option(word: str) -> bool:
    """Whether a word of the command line names an option, rather than being a value such as -1."""
    return word.startswith("--") or (word.startswith("-") and word[1:2].isalpha())


def plain(key: str) -> str:
    """A dotted key without `init_args`, which may be left out, and without the `+` that appends."""
    return ".".join(name.rstrip("+") for name in key.split(".") if name != "init_args")
