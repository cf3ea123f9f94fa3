"""Parser of configs and options whose errors are one sentence about one key, over jsonargparse."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from textwrap import shorten
from types import NoneType, UnionType
from typing import Any, Final, Literal, NoReturn, Union, get_args, get_origin

import yaml
from jsonargparse import Namespace, set_loader
from lightning.fabric.utilities.enums import LightningEnum  # type: ignore[attr-defined]
from lightning.pytorch.cli import LightningArgumentParser

from vlm_lit.commands.config_files import COMMAND_LINE, ConfigFiles, plain
from vlm_lit.commands.known_options import LINKS
from vlm_lit.commands.logger_options import run_defaults
from vlm_lit.commands.nulls import NULLS
from vlm_lit.commands.option_errors import OptionError, denied, no_class, other_class, prefixes, unknown
from vlm_lit.errors import ConfigError, check_seed, nearest
from vlm_lit.files.strict_yaml import StrictLoader
from vlm_lit.training.optimizer_choice import rate_without_effect

_WORDS: Final[dict[object, str]] = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", NoneType: "null", dict: "a mapping",
}  # fmt: skip

_OPTIMIZER: Final = "model.init_args.optimizer"
_LONGEST_WORD: Final = 200
_SHARED: Final = (NoneType, bool, int, float, str)
"""What cannot be changed, so several may have the same one."""

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
        return {prefix for name in names - {"help", "print_shtab"} for prefix in prefixes(name)}

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
                return denied(key, found[1])
            if found := _NO_CLASS.search(text):
                return _no_class(key, found[1] or found[2])
            if found := _OTHER_CLASS.search(text):
                return other_class(key, found[1], found[2])
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
        near = nearest(value, re.findall(r"[\w-]+", wanted)) if "one of" in wanted else None
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


def _no_class(key: str, path: str) -> OptionError:
    module = sys.modules.get(path.rpartition(".")[0])
    there = [f"{module.__name__}.{name}" for name in vars(module)] if module is not None else []
    if path in there:
        return OptionError(f"{key}.init_args", "must be a mapping of the class's parameters")
    return no_class(key, path, there)


def check_empty(files: ConfigFiles, settings: Namespace) -> None:
    """Refuse an unknown key whose value is empty: jsonargparse overlooks it.

    Raises:
        ConfigError: there is one.
    """
    for key in files.empty:
        here: object = settings
        for name in key.split("."):
            here = here["init_args"] if isinstance(here, Namespace) and "init_args" in here else here
            if isinstance(here, Namespace) and name not in here:
                beside = {f"{key[: -len(name)]}{other}" for other in vars(here)}
                raise ConfigError(files.placed(str(unknown(key, beside.union(prefixes(key)[:-1])))))
            here = here[name] if isinstance(here, Namespace) else None


def check_links(files: ConfigFiles, settings: Namespace) -> None:
    """Refuse a setting that is written and follows from another one, which would overwrite it.

    Raises:
        ConfigError: it says something else than the other one.
    """
    for target, source in LINKS.items():
        value = settings.get(in_full(target))
        if target not in files.places or (written := (files.values.get(target) or ["no word"])[-1]) == str(value):
            continue
        if value is not None or written not in NULLS:
            raise ConfigError(
                f"{in_full(target)} is {written}, which has no effect: it follows from {in_full(source)}, which makes "
                f"it {value}. Set {in_full(source)} instead, and leave {in_full(target)} out."
            )


def check_rate_written(files: ConfigFiles, settings: Namespace) -> None:
    """Refuse an optimizer's `lr` that was written by hand, though it is the class's default: the parts have their own.

    A run's own config holds every option of its optimizer, so there `lr` may be one that nobody wrote.

    Raises:
        ConfigError: it says something else than model.learning_rate.
    """
    options, rate = settings.get(f"{_OPTIMIZER}.init_args"), settings.get("model.init_args.learning_rate")
    place = files.places.get(f"{plain(_OPTIMIZER)}.lr")
    if place is None or not isinstance(options, Namespace) or rate is None or options.get("lr") in (None, rate):
        return
    if place == COMMAND_LINE or any(f"{plain(_OPTIMIZER)}.{name}" not in files.places for name in vars(options)):
        raise rate_without_effect(options["lr"], rate)


def in_full(key: str) -> str:
    """A dotted key of the model or the data with its `init_args`."""
    section, dot, name = key.partition(".")
    return f"{section}.init_args.{name}" if dot else key


def check_numbers(settings: object, key: str = "") -> None:
    """Refuse a setting that is no number (NaN), and a seed that no generator takes.

    Raises:
        ConfigError: naming it; the dotted key comes first.
    """
    if isinstance(settings, (Namespace, Mapping)):
        items = vars(settings) if isinstance(settings, Namespace) else settings
        for name, value in items.items():
            check_numbers(value, f"{key}.{name}" if key else str(name))
    elif isinstance(settings, (list, tuple)):
        for value in settings:
            check_numbers(value, key)
    elif isinstance(settings, float) and math.isnan(settings):
        raise ConfigError(f"{key} is nan, which is no number. Write one, or leave the setting out.")
    elif key == "seed_everything" and isinstance(settings, int):
        check_seed(settings, key)


def read_config() -> None:
    """Read every config of this process with unique keys, finite numbers and plain exponents; write it in full."""
    set_loader("yaml", _loaded, exceptions=(yaml.YAMLError,))
    # Lightning's words that are defaults, such as the interval of its Timer.
    yaml.SafeDumper.add_multi_representer(LightningEnum, lambda dumper, word: dumper.represent_str(str(word.value)))


def _loaded(text: str) -> object:
    """What a text says; a word is read once, though jsonargparse asks for each setting's many times in turn."""
    if len(text) <= _LONGEST_WORD and isinstance(value := _word(text), _SHARED):
        return value
    return yaml.load(text, Loader=StrictLoader)


@lru_cache(maxsize=4096)
def _word(text: str) -> object:
    return yaml.load(text, Loader=StrictLoader)
