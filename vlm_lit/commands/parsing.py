"""What is wrong with an option or a config, and which one was meant?"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from difflib import get_close_matches
from typing import Any, NoReturn

import yaml
from jsonargparse import set_loader
from lightning.pytorch.cli import LightningArgumentParser

from vlm_lit.schema import ConfigError

# How jsonargparse words what it does not know.
_UNKNOWN = (
    re.compile(r"[Kk]ey ['\"]?(?P<name>[\w.]+)['\"]? is not expected"),
    re.compile(r"No action for key ['\"](?P<name>[\w.]+)['\"]"),
    re.compile(r"Unrecognized arguments: (?P<name>--[\w.]+)"),
    re.compile(r"does not accept (?:nested )?(?:option|key|parameter)s? ['\"](?P<name>[\w.]+)['\"]"),
)


class SuggestingParser(LightningArgumentParser):
    """A parser whose errors are one paragraph and name the nearest valid option."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what jsonargparse would print, with the option that was probably meant.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{message.rstrip('.')}.{suggestion(message, self.known_names())}") from ex

    def known_names(self) -> set[str]:
        """Every option of this parser, dotted."""
        names: set[str] = set()
        for action in self._actions:
            names.add(action.dest)
            names |= _constructor_names(action.dest)
        return names


def _constructor_names(destination: str) -> set[str]:
    """Names under model. and data.: parameters of the classes that are usually named there."""
    from inspect import signature

    from vlm_lit.data.datamodule import ConversationDataModule
    from vlm_lit.training.supervised import SupervisedModule

    usual = {"model": SupervisedModule, "data": ConversationDataModule}
    if destination not in usual:
        return set()
    return {f"{destination}.init_args.{name}" for name in signature(usual[destination]).parameters}


def suggestion(message: str, known: Iterable[str]) -> str:
    """` Did you mean ...?` for the first unknown name that `message` speaks of, or nothing."""
    for pattern in _UNKNOWN:
        found = pattern.search(message)
        if found is None:
            continue
        written = found.group("name").lstrip("-")
        near = _nearest(written, known)
        return f" Did you mean {near!r}?" if near else ""
    return ""


def _nearest(written: str, known: Iterable[str]) -> str | None:
    leaf = written.rsplit(".", 1)[-1]
    by_leaf: dict[str, str] = {}
    for name in sorted(known):
        by_leaf.setdefault(name.rsplit(".", 1)[-1], name)
    whole = get_close_matches(written, list(by_leaf.values()), n=1, cutoff=0.8)
    close = get_close_matches(leaf, by_leaf, n=1, cutoff=0.6)
    return whole[0] if whole else by_leaf[close[0]] if close else None


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key written twice is a mistake, not the last one's victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise ConfigError(
                    f"Line {key_node.start_mark.line + 1} of a config repeats the key {key!r}. Keep one of the two."
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 reads 1e-4 as a string; everybody means the number.
_UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$|^[-+]?[0-9][0-9_]*\.[0-9_]*$"
        r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _load(text: str) -> Any:  # noqa: ANN401 - whatever a YAML text says
    return yaml.load(text, Loader=_UniqueKeys)  # a SafeLoader


def read_config() -> None:
    """Read every config of this process with unique keys and plain exponents."""
    set_loader("yaml", _load, exceptions=(yaml.YAMLError,))
