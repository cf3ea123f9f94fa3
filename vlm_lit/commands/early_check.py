"""Check of a command line before any heavy import: options, keys, classes, choices and files.

Only what is certain is refused here, in the words of the parser that comes after: an option or key that the classes
named do not have, a class of ours that there is not, a word that is none of those to choose from, a file that is not
there. Whatever else may be wrong, the parser finds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Final

from vlm_lit.commands.config_files import ConfigFiles, is_option
from vlm_lit.commands.known_options import BASE_CLASSES, DEFAULT_CLASSES, dotted_names, section_class, top_level
from vlm_lit.commands.option_errors import (
    IMPORTABLE,
    OptionError,
    denied,
    importable_packages,
    no_class,
    other_class,
    prefixes,
    unknown,
    wrong_choice,
)
from vlm_lit.commands.signatures import Named, Parameter, lineage
from vlm_lit.errors import ConfigError, nearest

_BARE: Final = ("print_config", "help", "overwrite")
"""Options that need no value."""


def check(verb: str, arguments: Sequence[str]) -> None:
    """Look at what a command line names.

    Raises:
        ConfigError: a file, an option, a key or a class is not there; names the nearest that is. Or Lightning is not.
    """
    _refuse_without_lightning()
    _refuse_stray_words(arguments)
    files = ConfigFiles(arguments)
    error = next(_found(verb, files), None)
    if error is not None:
        raise ConfigError(files.placed(str(error))) from error


def _refuse_without_lightning() -> None:
    """A Python in whose packages an option's class is not found: it would be said not to have the option."""
    if find_spec("lightning") is None:
        raise ConfigError(
            f"{sys.executable} has no package lightning, so vlm_lit is not installed there. Activate the environment "
            "that it is installed in; the scripts for SLURM and torchrun take its Python from the variable PYTHON."
        )


def _refuse_stray_words(arguments: Sequence[str]) -> None:
    """A word that is neither an option nor the value of one."""
    takes = False
    for word in arguments:
        if is_option(word):
            takes = "=" not in word and word.lstrip("-") not in _BARE
        elif takes or word in ("-", ""):
            takes = False
        else:
            meant = f" Did you mean --config {word}?" if word.endswith((".yaml", ".yml")) else ""
            raise ConfigError(f"the command line: {word} follows no option.{meant} Options begin with --.")


def _found(verb: str, files: ConfigFiles) -> Iterator[OptionError]:
    known = top_level(verb)
    for key in files.places:
        if key.split(".")[0] not in known:
            yield _unknown_at_top(key, known)
    for section in ("model", "data", "trainer"):
        yield from _wrong_in(section, files)
    named = files.values.get("model.class_path") or files.values.get("model")
    if not named and not {"print_config", "model.model_id", "from"} & files.places.keys():
        remedy = "Say it in a config: --config <file>."
        yield OptionError("model.init_args.model_id", "must be set", remedy=remedy)


def _unknown_at_top(key: str, known: set[str]) -> OptionError:
    first, _, rest = key.partition(".")
    error = unknown(first, known - {"h", "c"})
    if error.near is not None:
        return OptionError(key, error.problem, near=f"{error.near}.{rest}".rstrip("."))
    # `lora.rank`, where model.init_args.lora.rank is meant
    for section in (*DEFAULT_CLASSES, "trainer"):
        found = section_class(section)
        if found is not None and key in dotted_names(found):
            return OptionError(key, error.problem, near=f"{_prefix(section)}{key}")
    return error


def _wrong_in(section: str, files: ConfigFiles) -> Iterator[OptionError]:
    """What is wrong with the class of a section, or with what it is to be made from."""
    paths = class_paths(section, files)
    for path in paths:
        yield from _wrong_class(section, path)
    if len(paths) > 1 or (paths and "." in paths[0] and not paths[0].startswith("vlm_lit.")):
        return  # of several the last counts, which drops what was said to the others; a class of others may do anything
    found = section_class(section, paths[0] if paths else None)
    if found is not None:
        yield from _wrong_names(section, found, files)


def class_paths(section: str, files: ConfigFiles) -> list[str]:
    """The classes that a command line names for a section, in the order of first sight."""
    if section == "trainer":
        return []
    written = [*files.values.get(f"{section}.class_path", []), *files.values.get(section, [])]
    words = [word for word in written if word.replace(".", "").replace("_", "").isalnum() and not word.isdecimal()]
    return [w for w in dict.fromkeys(words) if w not in ("null", "true", "false") and not w.endswith((".yaml", ".yml"))]


def _wrong_class(section: str, path: str) -> Iterator[OptionError]:
    package = path.split(".")[0]
    if "." in path and package not in importable_packages():
        if not any(allowed.startswith(f"{package}.") for allowed in IMPORTABLE):
            yield denied(section, path)
    elif package == "vlm_lit" or "." not in path:
        found = section_class(section, path)
        if found is None:
            yield no_class(section, path)
        elif BASE_CLASSES[section] not in lineage(found):
            yield other_class(section, path, BASE_CLASSES[section])


def _wrong_names(section: str, found: Named, files: ConfigFiles) -> Iterator[OptionError]:
    names = dotted_names(found)
    for key in files.places:
        name = key.removeprefix(f"{section}.")
        if name == key or name in ("class_path", "init_args", "dict_kwargs"):
            continue
        error = _wrong_name(name.removesuffix(".help"), names)
        if error is not None:
            yield error.below(_prefix(section))
        elif name in names:
            yield from (e.below(_prefix(section)) for e in _wrong_words(name, names[name], files.values.get(key, [])))


def _wrong_name(name: str, names: dict[str, Parameter]) -> OptionError | None:
    """The error for a name that nothing has; None where it is one, or stands inside something of any content."""
    for prefix in prefixes(name):
        if prefix not in names:
            return unknown(name, names)
        if names[prefix].settings is None:
            break
    return None


def _wrong_words(name: str, parameter: Parameter, values: Sequence[str]) -> Iterator[OptionError]:
    choices = parameter.choices
    for value in values if choices is not None else ():
        assert choices is not None
        if value not in choices and nearest(value, choices) is not None:
            yield wrong_choice(name, value, choices, null=parameter.takes_null)


def _prefix(section: str) -> str:
    return "trainer." if section == "trainer" else f"{section}.init_args."
