"""Errors about unknown options and classes, each with the name that was probably meant. No heavy import."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Final

import vlm_lit
from vlm_lit.commands.signatures import own_classes
from vlm_lit.errors import ConfigError, nearest
from vlm_lit.metrics.own_rules import ALLOW_VARIABLE, allowed_packages

IMPORTABLE: Final = ("vlm_lit", "torch.optim", "bitsandbytes.optim", "lightning.pytorch")
"""Whose code a config may name: a config is data, and data may come from strangers."""

NOT_AN_OPTION: Final = "is not an option"
_KINDS: Final = ("LightningModule", "LightningDataModule", "Callback")


class OptionError(ConfigError):
    """An option that cannot be taken: its dotted key, what is wrong, the key or value that was probably meant."""

    def __init__(self, key: str, problem: str, *, near: str | None = None, remedy: str = "") -> None:
        super().__init__(f"{key} {problem}.{f' Did you mean {near}?' if near else ''} {remedy}".strip())
        self.key, self.problem, self.near, self.remedy = key, problem, near, remedy

    def below(self, prefix: str) -> OptionError:
        """The same error as the parser around this one names it."""
        near = f"{prefix}{self.near}" if self.near and self.problem == NOT_AN_OPTION else self.near
        return OptionError(f"{prefix}{self.key}", self.problem, near=near, remedy=self.remedy)


def importable_packages() -> list[str]:
    """The packages whose code a config may name here: these, and those of the user's own."""
    return [*IMPORTABLE, *allowed_packages()]


def unknown(name: str, known: Iterable[str]) -> OptionError:
    """The error for a name that no option has: with the nearest name, or with those that stand beside it."""
    known = sorted(known)
    name = next((prefix for prefix in prefixes(name) if prefix not in known), name)
    parent, _, leaf = name.rpartition(".")
    beside = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent]
    sibling = nearest(leaf, beside)
    near = f"{parent}.{sibling}".lstrip(".") if sibling else nearest(name, known, cutoff=0.8)
    near = near or next((other for other in known if other.rpartition(".")[2] == leaf), None)
    remedy = f"There are: {', '.join(beside)}." if beside and not near else ""
    return OptionError(name, NOT_AN_OPTION, near=near, remedy=remedy)


def wrong_choice(key: str, value: str, choices: list[str], *, null: bool = False) -> OptionError:
    """The error for a word that is none of those that an option takes."""
    wanted = f"one of {', '.join(choices)}{' or null' if null else ''}"
    return OptionError(key, f"is {value}; it must be {wanted}", near=nearest(value, choices))


def denied(key: str, path: str) -> OptionError:
    """The error for a class that a config may not name."""
    package = path.split(".")[0]
    # Nobody means os.system: what a stranger's config would name is not to be allowed by reading this.
    own = package not in sys.stdlib_module_names
    remedy = f"If it is your own code, allow it by the environment variable {ALLOW_VARIABLE}={package}." if own else ""
    problem = f"names {path}, which a config may not import"
    return OptionError(f"{key}.class_path", problem, near=nearest(path, _ours()), remedy=remedy)


def no_class(key: str, path: str, others: Iterable[str] = ()) -> OptionError:
    """The error for a class that there is not; `others` may have been meant as well as ours."""
    ours = _ours() if "." in path else [name.rpartition(".")[2] for name in _ours()]
    near = nearest(path, [*others, *ours])
    return OptionError(f"{key}.class_path", f"is {path}, which does not exist", near=near)


def other_class(key: str, path: str, base: str) -> OptionError:
    """The error for a class that is none of the kind that is asked for."""
    # Those that stand at the top of the package; the others are what these are made of.
    named = (path.rpartition(".")[2] for path in own_classes("vlm_lit", base))
    fitting = [f"vlm_lit.{name}" for name in named if name in vlm_lit.__all__]
    remedy = f"Ours are {', '.join(fitting)}." if fitting else ""
    return OptionError(f"{key}.class_path", f"is {path}, which is no {base}", remedy=remedy)


def _ours() -> list[str]:
    """The classes of ours that a config may name."""
    return [name for kind in _KINDS for name in own_classes("vlm_lit", kind)]


def prefixes(name: str) -> list[str]:
    """`a`, `a.b` and `a.b.c` for `a.b.c`."""
    return [name[: found.start()] for found in re.finditer(r"\.|$", name)]
