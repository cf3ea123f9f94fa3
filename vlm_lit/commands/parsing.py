"""What is wrong with an option or a config, where does it stand, and which one was meant?"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from textwrap import shorten
from types import NoneType, UnionType
from typing import Any, Final, Literal, NoReturn, Union, get_args, get_origin

import yaml
from jsonargparse import Namespace, set_loader
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from vlm_lit.commands.logger_options import run_defaults
from vlm_lit.data.yaml_strict import StrictLoader, loading_problem
from vlm_lit.metrics.own_rules import ALLOW_VARIABLE
from vlm_lit.schema import ConfigError

_NOT_AN_OPTION: Final = "is not an option"
_SUFFIXES: Final = (".yaml", ".yml")
_WORDS: Final[dict[object, str]] = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null", dict: "a mapping",
}  # fmt: skip

# How jsonargparse 4.53 words what it refuses: union errors in union errors, of which the innermost is meant.
_KEY = re.compile(r"Parser key \"([\w.+]+)\"")
_VALUE = re.compile(r"(?:Got value: |Given value: )(.*?)(?:\nSubclass types|\Z)", re.S)
_UNKNOWN = re.compile(
    r"^(?:Option|Key) '([^']+)' is not accepted|^Group '([^']+)' does not accept option '([^']+)'"
    r"|^Subcommand '\w+' does not accept option '([^']+)'|^unrecognized arguments: -*([^\s=]+)"
)
_DENIED = re.compile(r"^Importing '([^']+)' is not allowed")
_NO_CLASS = re.compile(r"^Problem with given class_path '([^']+)'|expects a function .*class_path='([^']+)'", re.S)
_OTHER_CLASS = re.compile(r"^Import path (\S+) does not correspond to a subclass of (\w+)")
_REQUIRED = re.compile(r"^the following arguments are required: (.*)")


class OptionError(ConfigError):
    """An option that cannot be taken: its dotted key, what is wrong, the key or value that was probably meant."""

    def __init__(self, key: str, problem: str, *, near: str | None = None, remedy: str = "") -> None:
        super().__init__(f"{key} {problem}.{f' Did you mean {near}?' if near else ''} {remedy}".strip())
        self.key, self.problem, self.near, self.remedy = key, problem, near, remedy

    def below(self, prefix: str) -> OptionError:
        """The same error as the parser around this one names it."""
        near = f"{prefix}{self.near}" if self.near and self.problem == _NOT_AN_OPTION else self.near
        return OptionError(f"{prefix}{self.key}", self.problem, near=near, remedy=self.remedy)


class SuggestingParser(LightningArgumentParser):
    """A parser whose errors are one sentence about one key. The parsers of classes named in a config are its like."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - argparse's own
        # argparse would take --trainer.max_epoch for whichever option begins so.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise, as an OptionError, what jsonargparse would print."""
        chain = list(chain_of(ex))
        texts = [text.strip() for text in (message, *map(str, chain))]
        key = next((found.group(1) for text in texts if (found := _KEY.match(text))), "")
        inner = next((error for error in chain if isinstance(error, OptionError)), None)
        if inner is not None:
            raise inner.below(self._prefix(key)) from ex
        raise self._worded(key, texts) from ex

    def validate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - jsonargparse's own
        """Check every value, a group's own among them: jsonargparse looks at what is inside it only."""
        super().validate(namespace, *args, **kwargs)
        for group in [name for name in self.groups or () if self._type_of(name) is None]:
            if group in namespace and not isinstance(namespace[group], (Namespace, dict)):
                value = "null" if namespace[group] is None else shorten(str(namespace[group]), 60)
                raise OptionError(group, f"is {value}; it must be a mapping, or left out")

    def add_class_arguments(self, class_type: type, *args: Any, **kwargs: Any) -> list[str]:  # noqa: ANN401 - jsonargparse's own
        """Add a class's options; a logger's files go into the run directory by default."""
        added: list[str] = super().add_class_arguments(class_type, *args, **kwargs)
        self.set_defaults(run_defaults(class_type, self._actions))
        return added

    def known_names(self) -> set[str]:
        """Every option of this parser and every group of them, dotted."""
        parsers = [self, *getattr(self._subcommands_action, "_name_parser_map", {}).values()]
        names = {action.dest for parser in parsers for action in parser._actions}
        return {prefix for name in names - {"help", "print_shtab"} for prefix in _prefixes(name)}

    def _prefix(self, key: str) -> str:
        plain = not key or any(is_dataclass(kind) for kind in _kinds(self._type_of(key)))
        return f"{key}.".lstrip(".") if plain else f"{key}.init_args."

    def _type_of(self, key: str) -> object:
        return next((getattr(action, "_typehint", None) for action in self._actions if action.dest == key), None)

    def _worded(self, key: str, texts: Sequence[str]) -> OptionError:
        for text in reversed(texts):
            if found := _UNKNOWN.search(text):
                return unknown(".".join(part for part in found.groups() if part), self.known_names())
            if found := _DENIED.search(text):
                return _denied(key, found[1])
            if found := _NO_CLASS.search(text):
                return _no_class(key, found[1] or found[2])
            if found := _OTHER_CLASS.search(text):
                return _other_class(key, found[1], found[2])
            if found := _REQUIRED.search(text):
                names = " and ".join(name.rpartition(".")[2] for name in found[1].split(", "))
                return OptionError(names, "must be set", remedy="Say it in a config: --config <file>.")
        return self._wrong_value(key, texts)

    def _wrong_value(self, key: str, texts: Sequence[str]) -> OptionError:
        kind = self._type_of(key)
        values = [found[1] for text in reversed(texts) if (found := _VALUE.search(text))]
        if kind is None or not values:
            return OptionError(key or "The command line", f"cannot be used: {texts[-1].rstrip('.')}")
        value = shorten(values[0], 60, placeholder=" ...")
        wanted = " or ".join(dict.fromkeys(map(_in_words, _kinds(kind))))
        near = _nearest(value, re.findall(r"[\w-]+", wanted)) if "one of" in wanted else None
        return OptionError(key, f"is {value}; it must be {wanted}", near=near)


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _kinds(kind: object) -> tuple[object, ...]:
    """A type, or the types of a union."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _in_words(kind: object) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is list:
        return f"a list, each {_in_words(get_args(kind)[0])}"
    if is_dataclass(kind):
        return f"a mapping of {', '.join(field.name for field in fields(kind))}"
    return _WORDS.get(get_origin(kind) or kind, "a class_path with its init_args")


def _prefixes(name: str) -> list[str]:
    return [name[: found.start()] for found in re.finditer(r"\.|$", name)]


def unknown(name: str, known: Iterable[str]) -> OptionError:
    """The error for a name that no option has: with the nearest name, or with those that stand beside it."""
    known = sorted(known)
    name = next((prefix for prefix in _prefixes(name) if prefix not in known), name)
    parent, _, leaf = name.rpartition(".")
    beside = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent]
    sibling = _nearest(leaf, beside)
    near = f"{parent}.{sibling}".lstrip(".") if sibling else _nearest(name, known, cutoff=0.8)
    near = near or next((other for other in known if other.rpartition(".")[2] == leaf), None)
    remedy = f"There are: {', '.join(beside)}." if beside and not near else ""
    return OptionError(name, _NOT_AN_OPTION, near=near, remedy=remedy)


def _nearest(written: str, options: Iterable[str], cutoff: float = 0.6) -> str | None:
    return next(iter(get_close_matches(written, list(options), n=1, cutoff=cutoff)), None)


def _denied(key: str, path: str) -> OptionError:
    package = path.split(".")[0]
    # Nobody means os.system: what a stranger's config would name is not to be allowed by reading this.
    own = package not in sys.stdlib_module_names
    remedy = f"If it is your own code, allow it by the environment variable {ALLOW_VARIABLE}={package}." if own else ""
    problem = f"names {path}, which a config may not import"
    return OptionError(f"{key}.class_path", problem, near=_nearest(path, _own_classes()), remedy=remedy)


def _no_class(key: str, path: str) -> OptionError:
    module = sys.modules.get(path.rpartition(".")[0])
    there = [f"{module.__name__}.{name}" for name in vars(module)] if module is not None else []
    if path in there:
        return OptionError(f"{key}.init_args", "must be a mapping of the class's parameters")
    near = _nearest(path, [*there, *_own_classes()])
    return OptionError(f"{key}.class_path", f"is {path}, which does not exist", near=near)


def _other_class(key: str, path: str, base: str) -> OptionError:
    fitting = [name for name, kind in _own_classes().items() if any(b.__name__ == base for b in kind.__mro__)]
    remedy = f"Ours are {', '.join(fitting)}." if fitting else ""
    return OptionError(f"{key}.class_path", f"is {path}, which is no {base}", remedy=remedy)


def _own_classes() -> dict[str, type]:
    kinds: list[type] = [LightningModule, LightningDataModule, Callback]
    for kind in kinds:  # grows while it is walked
        kinds += kind.__subclasses__()
    return {f"{k.__module__}.{k.__qualname__}": k for k in kinds if k.__module__.startswith("vlm_lit.")}


def read_config() -> None:
    """Read every config of this process with unique keys, finite numbers and plain exponents."""
    set_loader("yaml", lambda text: yaml.load(text, Loader=StrictLoader), exceptions=(yaml.YAMLError,))


class ConfigFiles:
    """Where each setting of a command line stands: its files, read before anything else so that they can be named."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.places: dict[str, str] = {}
        self.empty: list[str] = []
        for word, following in pairwise([*arguments, ""]):
            if word.startswith("-"):
                option, _, value = word.lstrip("-").partition("=")
                self._option(option, value or following)

    def _option(self, option: str, value: str) -> None:
        self.places[_plain(option)] = "the command line"
        if option in ("config", "c"):
            self._read(Path(value), "", "the command line")
        elif option in ("trainer", "model", "data") and value.endswith(_SUFFIXES):
            self._read(Path(value), option, "the command line")

    def placed(self, message: str) -> str:
        """A message about the dotted key it begins with, after the file and line where that is set."""
        key = _plain(message.split(" ", 1)[0])
        within = [place for name, place in self.places.items() if name == key or name.startswith(f"{key}.")]
        found = within[0] if within else self.places.get(key.rpartition(".")[0])
        return f"{found}: {message}" if found else message

    def check_empty(self, settings: Namespace) -> None:
        """Refuse an unknown key whose value is empty: jsonargparse overlooks it."""
        for key in self.empty:
            here: object = settings
            for name in key.split("."):
                here = here["init_args"] if isinstance(here, Namespace) and "init_args" in here else here
                if isinstance(here, Namespace) and name not in here:
                    beside = {f"{key[: -len(name)]}{other}" for other in vars(here)}
                    raise ConfigError(self.placed(str(unknown(key, beside.union(_prefixes(key)[:-1])))))
                here = here[name] if isinstance(here, Namespace) else None

    def _read(self, path: Path, prefix: str, named: str) -> None:
        if not path.is_file():
            near = _nearest(str(path), map(str, path.parent.glob("*.yaml")))
            raise ConfigError(f"{named}: there is no config file {path}." + (f" Did you mean {near}?" if near else ""))
        try:
            loader = StrictLoader(path.read_text(encoding="utf-8"))
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise ConfigError(f"{path} is no config: write settings as `name: value`, one a line.")
            loader.construct_document(node)
            self._note(node, prefix, path)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{path}{loading_problem(error)}. A config is plain data, each key once.") from error

    def _note(self, node: yaml.MappingNode, prefix: str, path: Path) -> None:
        for name, value in node.value:
            key = _plain(f"{prefix}.{name.value}".lstrip("."))
            self.places[key] = f"{path}, line {name.start_mark.line + 1}"
            for inner in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(inner, yaml.MappingNode):
                    self.empty += [] if inner.value else [key]
                    self._note(inner, key, path)
                elif isinstance(inner, yaml.ScalarNode) and inner.value.endswith(_SUFFIXES):
                    self._read(path.parent / inner.value, key, self.places[key])


def _plain(key: str) -> str:
    return ".".join(name.rstrip("+") for name in key.split(".") if name != "init_args")
