'''Metrics of the user's own: import of a class by its path, and the check that nothing is missing in it.

It is named by its path wherever a metric is named: `metrics: [{name: my_package.WithinOne}]` in a config,
`score --metric my_package.WithinOne`. A config may come from strangers, so its package is imported only if the
environment variable VLM_LIT_ALLOW_IMPORTS names it, as for any code of one's own.

    """my_package.py: is a number at most `distance` away from the true one?"""
    from dataclasses import dataclass
    from typing import ClassVar
    from vlm_lit.metrics.rules import Answer, Counts, Rule

    @dataclass(frozen=True)
    class WithinOne(Rule):
        title: ClassVar[str] = "within_one"
        distance: int = 1  # an option: metrics: [{name: my_package.WithinOne, options: {distance: 2}}]

        def counts(self, answer: Answer) -> Counts | None:
            if not (answer.prediction.isdigit() and answer.references[0].isdigit()):
                return (0.0,)
            return (float(abs(int(answer.prediction) - int(answer.references[0])) <= self.distance),)
'''

from __future__ import annotations

import importlib
import inspect
import os
import sys
from dataclasses import MISSING, fields
from typing import Final, Literal, get_origin, get_type_hints

from vlm_lit.errors import ConfigError, nearest
from vlm_lit.metrics.rules import OPTION_KINDS, Rule

ALLOW_VARIABLE: Final = "VLM_LIT_ALLOW_IMPORTS"
_EXAMPLE: Final = "An example stands in vlm_lit/metrics/own_rules.py."


def allowed_packages() -> list[str]:
    """The packages of the user's own that a config may name code of."""
    return [name.strip() for name in os.environ.get(ALLOW_VARIABLE, "").split(",") if name.strip()]


def own_rule(path: str) -> type[Rule]:
    """Returns the metric class at a dotted path.

    Raises:
        ConfigError: it may not be imported, is not there, or lacks something that a metric has.
    """
    _check_allowed(path)
    kind = _imported(path)
    lacking = _lacking(kind)
    if lacking:
        raise ConfigError(f"The metric {path} {'; it '.join(lacking)}. {_EXAMPLE}")
    return kind  # type: ignore[return-value]


def _check_allowed(path: str) -> None:
    if any(path.startswith(f"{name}.") for name in allowed_packages()):
        return
    package = path.partition(".")[0]
    if package in sys.stdlib_module_names or package == "vlm_lit":
        raise ConfigError(f"The metric {path} is none: name one of ours by its name alone.")
    raise ConfigError(
        f"The metric {path} is code that a config may not import. If it is your own, allow it by the environment "
        f"variable {ALLOW_VARIABLE}={package}."
    )


def _imported(path: str) -> object:
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"The metric {path} cannot be imported: {error}. Is it on PYTHONPATH?") from error
    if not hasattr(module, name):
        there = [other for other, value in vars(module).items() if inspect.isclass(value)]
        near = nearest(name, there)
        hint = f" Did you mean {module_name}.{near}?" if near else ""
        raise ConfigError(f"The metric {path} does not exist: {module_name} has no {name}.{hint}")
    return getattr(module, name)


def _lacking(kind: object) -> list[str]:
    """What a class would have to be to be a metric, each as the rest of a sentence."""
    if not inspect.isclass(kind):
        return ["is no class"]
    if not issubclass(kind, Rule):
        return ["is no subclass of vlm_lit.metrics.rules.Rule"]
    lacking = [f"has no method {name}" for name in sorted(kind.__abstractmethods__)]
    title = getattr(kind, "title", None)
    if not isinstance(title, str) or not title or "/" in title:
        lacking.append("has no `title: ClassVar[str]`, a name without a slash")
    annotated = [name for name, hint in inspect.get_annotations(kind).items() if "ClassVar" not in str(hint)]
    if "__dataclass_fields__" not in vars(kind) and annotated:
        lacking.append(f"has the option {annotated[0]} but no @dataclass(frozen=True) above it")
    hints = get_type_hints(kind)
    for option in fields(kind):
        if option.default is MISSING:
            lacking.append(f"gives its option {option.name} no default")
        if hints[option.name] not in OPTION_KINDS and get_origin(hints[option.name]) is not Literal:
            lacking.append(f"has the option {option.name}, which is none of bool, int, float, str or a Literal")
    return lacking
