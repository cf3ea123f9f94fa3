"""Settings that a file keeps, made into their class: a value of another kind is a sentence, as in a config."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Mapping
from typing import TypeVar

from jsonargparse import ArgumentParser

from vlm_lit.errors import ConfigError

Made = TypeVar("Made")


def kept_settings(kind: type[Made], values: object, where: str) -> Made:
    """An object of `kind` from its arguments by name.

    Args:
        kind: a class whose arguments are annotated.
        values: what the file holds.
        where: the file, and the key in it.

    Raises:
        ConfigError: a value is none that the argument takes, or has no argument of its name.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} is {values!r:.60}, no settings by name. Use a folder that fit wrote.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "kept")
    try:
        made: Made = parser.instantiate(parser.parse_object({"kept": dict(values)})).kept
    except (ArgumentError, TypeError, ValueError, KeyError, AttributeError) as error:
        said = " ".join(str(error).replace("kept.", "").split())
        raise ConfigError(f"{where} is not what fit writes there: {said:.300}. Use a folder that fit wrote.") from error
    return made
