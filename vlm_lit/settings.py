"""Settings classes made from plain mappings, as notebooks write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vlm_lit.errors import ConfigError, VlmLitError, nearest

Settings = TypeVar("Settings")


def as_settings(kind: type[Settings], written: object, name: str) -> Settings:
    """`written` itself where it is a `kind`; else the settings that it describes, its values checked.

    Args:
        kind: a dataclass of settings.
        written: one of them, or a mapping of its fields; a field that holds settings may be a mapping as well.
        name: what the argument is called, for the error.

    Raises:
        ConfigError: it is no mapping, or has a field or a value that `kind` cannot take.
    """
    if isinstance(written, kind):
        return written
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(written, Mapping):
        raise ConfigError(f"{name} is {written!r}; it must be a {kind.__name__} or a mapping of {', '.join(known)}.")
    for key in written:
        if key not in known:
            raise ConfigError(f"{name}.{key} is not an option.{meant(str(key), known, f'{name}.')}")
    for key, field in known.items():
        if key not in written and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{name}.{key} must be set.")
    hints = get_type_hints(kind)
    values = {key: _value(hints[key], value, f"{name}.{key}") for key, value in written.items()}
    try:
        return kind(**values)
    except VlmLitError as error:  # it names its own fields only
        raise ConfigError(f"{name}: {error}") from error


def meant(written: str, known: Iterable[str], prefix: str = "") -> str:
    """What an error says about a name that there is not: the one that was probably meant, or all there are."""
    known = list(known)
    near = nearest(written, known)
    return f" Did you mean {prefix}{near}?" if near else f" There are: {', '.join(known)}."


def _value(hint: Any, value: object, name: str) -> object:  # noqa: ANN401 - a type of any form
    """A field's value, a mapping in it turned into the settings it stands for."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    nested = next((kind for kind in kinds if is_dataclass(kind)), None)
    if isinstance(nested, type) and isinstance(value, Mapping):
        return as_settings(nested, value, name)
    if not any(_fits(kind, value) for kind in kinds):
        raise ConfigError(f"{name} is {value!r}; it must be {' or '.join(map(_in_words, kinds))}.")
    return value


def _fits(kind: Any, value: object) -> bool:  # noqa: ANN401 - a type of any form
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_fits(arguments[0], item) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(arguments[1], item) for item in value.values())
    if origin in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if origin is float else origin)


def _in_words(kind: Any) -> str:  # noqa: ANN401 - a type of any form
    words: dict[object, str] = {int: "a whole number", float: "a number", str: "text", NoneType: "None"}
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is list:
        return f"a list, each {_in_words(get_args(kind)[0])}"
    return words.get(kind, getattr(kind, "__name__", str(kind)))
