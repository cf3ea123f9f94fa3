"""Help pages of `fit --help`, `--model.help`, `--data.help` and `--trainer.help`: one line an option."""

from __future__ import annotations

import ast
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from vlm_lit.commands.config_files import is_option
from vlm_lit.commands.known_options import (
    DEFAULT_CLASSES,
    LINKS,
    TRAINER_DEFAULTS,
    dotted_names,
    run_options,
    section_class,
)
from vlm_lit.commands.option_errors import NOT_AN_OPTION, OptionError, no_class, unknown
from vlm_lit.commands.signatures import Named, Parameter, find_class, first_words, parameters
from vlm_lit.commands.verbs import EXAMPLES, program
from vlm_lit.errors import nearest

_USUAL: Final = {
    "max_epochs": "",
    "max_steps": "",
    "limit_train_batches": "",
    "val_check_interval": "",
    "accelerator": "cpu, gpu, mps, or auto for what is there",
    "devices": "how many devices, a list of their numbers, or auto for all",
    "precision": "bf16-mixed, or 32-true; the parts of the model have a precision of their own",
    "logger": "class_path of another logger; null takes TensorBoard's",
    "callbacks": "class_paths of further callbacks; --trainer.callbacks+ appends one",
    "fast_dev_run": "try so many steps and write nothing",
}
"""The trainer's options that a first run sets, in our words where Lightning's are about something else."""

_NARROWEST, _WIDEST = 80, 120
_IN_YAML: Final = {"None": "null", "True": "true", "False": "false"}
_COLUMN: Final = 42
"""Where an option's words start."""

_INDENT: Final = " " * 6


def asked_help(verb: str, words: str, arguments: Sequence[str]) -> str | None:
    """The page that a command line asks for; None where it asks for none, or for one that only an import can make.

    Args:
        verb: fit, validate, test or predict.
        words: what the verb does.
        arguments: what stands behind it.

    Raises:
        ConfigError: help is asked on an option or a class that there is not.
    """
    for place, word in enumerate(arguments):
        option, given, value = word.partition("=")
        if option in ("-h", "--help"):
            return verb_page(verb, words)
        if is_option(option) and option.endswith(".help"):
            following = arguments[place + 1] if place + 1 < len(arguments) else ""
            named = value if given else "" if is_option(following) else following
            return _option_page(option.removeprefix("--").removesuffix(".help"), named)
    return None


def verb_page(verb: str, words: str) -> str:
    """The options of a verb: those of the run, of the default classes, and the trainer's usual ones."""
    lines = [
        f"usage: {program()} {verb} --config FILE [--config FILE ...] [--OPTION VALUE ...]",
        "",
        f"{words[0].upper()}{words[1:]}. Every setting may stand in a config file or be an option here.",
        "",
        f"Example: {program()} {EXAMPLES[verb]}",
        "",
        "This run:",
        *(_line(f"--{option.name}", option.default, option.help) for option in run_options(verb)),
    ]
    for section, title in (("model", "Model"), ("data", "Data")):
        found = section_class(section)
        assert found is not None
        name = DEFAULT_CLASSES[section].rpartition(".")[2]
        other = f"--{section} CLASS takes another class; --{section}.help [CLASS] shows all it takes, in full"
        lines += ["", f"{title}, a {name} ({other}):", *_lines(section, parameters(found))]
    trainer = section_class("trainer")
    assert trainer is not None
    usual = [replace(p, help=_USUAL[p.name] or p.help) for p in parameters(trainer) if p.name in _USUAL]
    lines += ["", "Trainer (Lightning's; --trainer.help shows all it takes):", *_lines("trainer", usual)]
    return "\n".join(lines)


def class_page(prefix: str, found: Named) -> str:
    """Everything a class is made from: type, default and words of each parameter, those inside settings as well."""
    lines = [found.class_path, "", *textwrap.wrap(first_words(found), _width()), ""]
    for name, parameter in dotted_names(found).items():
        if parameter.name == "params" and parameter.default is None:
            continue  # an optimizer is given them
        lines += [
            f"  --{prefix}.{name}",
            *textwrap.wrap(_in_full(prefix, parameter), _width(), initial_indent=_INDENT, subsequent_indent=_INDENT),
        ]
    return "\n".join(lines)


def _option_page(key: str, class_path: str) -> str | None:
    """The page on `key`: the class it is made from, or the one that is named."""
    section, _, inner = key.replace(".init_args", "").partition(".")
    if section not in (*DEFAULT_CLASSES, "trainer"):
        near = nearest(section, (*DEFAULT_CLASSES, "trainer"))
        raise OptionError(f"{key}.help", NOT_AN_OPTION, near=f"{near}.help" if near else None)
    if not inner:
        found = section_class(section, class_path or None)
        if found is None and (class_path.startswith("vlm_lit.") or "." not in class_path):
            raise no_class(section, class_path)
        return class_page(section, found) if found is not None else None
    owner = section_class(section)
    assert owner is not None
    names = dotted_names(owner)
    if inner not in names:
        raise unknown(inner, names).below(f"{section}.")
    found = find_class(class_path) if class_path else names[inner].settings
    if found is not None:
        return class_page(f"{section}.{inner}", found)
    if class_path:
        return None
    return f"--{key}\n{textwrap.indent(_in_full(section, names[inner]), '      ')}"


def _lines(section: str, given: Sequence[Parameter]) -> Iterator[str]:
    for parameter in (p for p in given if f"{section}.{p.name}" not in LINKS):
        yield _line(f"--{section}.{parameter.name}", _shown_default(section, parameter), _gist(parameter.help))


def _line(option: str, default: str, words: str) -> str:
    left = f"  {option}{f' = {default}' if default else ''}".replace("= (", "(")
    room = _width() - max(_COLUMN, len(left)) - 2
    return f"{left:<{_COLUMN}}  {textwrap.shorten(words, max(20, room), placeholder=' ...')}"


def _width() -> int:
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((110, 24)).columns))


def _gist(words: str) -> str:
    """The first clause of a parameter's words."""
    return re.split(r"(?<=\w)[;.:] |, for example|\.$", words, maxsplit=1)[0]


def _shown_default(section: str, parameter: Parameter) -> str:
    """A default as it is written in YAML; nothing for null and for what is itself several settings."""
    if section == "trainer" and parameter.name in TRAINER_DEFAULTS:
        return _in_yaml(TRAINER_DEFAULTS[parameter.name])
    if parameter.default is None:
        return "(must be set)" if parameter.name == "model_id" and section == "model" else ""
    try:
        value = ast.literal_eval(parameter.default)
    except ValueError:
        return ""  # a call or a lambda: settings of their own
    return "" if value is None else _in_yaml(value)


def _in_yaml(value: object) -> str:
    return _IN_YAML.get(str(value), str(value))


def _in_full(section: str, parameter: Parameter) -> str:
    """The words of a parameter with its type and default."""
    words = parameter.help.replace("``", "")
    kind = " or ".join(map(_kind, parameter.kinds))
    default = _default_in_full(section, parameter)
    return f"{words or 'No words on it.'} ({kind}; {default})"


def _kind(kind: ast.expr) -> str:
    text = ast.unparse(kind)
    if text.startswith("Literal["):
        return f"one of {text[8:-1]}".replace("'", "")
    plain = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false", "None": "null"}
    return plain.get(text, text)


def _default_in_full(section: str, parameter: Parameter) -> str:
    if section == "trainer" and parameter.name in TRAINER_DEFAULTS:
        return f"default: {_in_yaml(TRAINER_DEFAULTS[parameter.name])}"
    if parameter.default is None:
        return "must be set"
    text = ast.unparse(parameter.default)
    return f"default: {_IN_YAML.get(text, text)}"
