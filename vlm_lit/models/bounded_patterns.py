"""Regular expressions of an adapter, tried in a process that may be stopped before any is used here.

PEFT matches each against the name of every layer. A few letters such as `(a+)+$` take years on one name.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from peft import LoraConfig

from vlm_lit.errors import ConfigError

MAX_SECONDS: Final = 4.0

Value = TypeVar("Value")


def check_patterns(config: LoraConfig, names: Sequence[str], where: str) -> None:
    """Refuse patterns of an adapter's file that do not end.

    Args:
        config: the adapter's settings.
        names: of all layers of its base.
        where: the file that they stand in.

    Raises:
        ConfigError: one is no pattern, or takes longer than any that is meant.
    """
    lists = [config.target_modules, config.exclude_modules, config.layers_pattern]
    patterns = [str(one) for one in lists if isinstance(one, str)]
    for ranks in (config.rank_pattern or {}, config.alpha_pattern or {}):
        if not isinstance(ranks, Mapping):
            raise ConfigError(f"{where}: its patterns of layers are none. Use a folder that fit wrote.")
        patterns += map(str, ranks)
    patterns += [one for held in lists if isinstance(held, list | tuple | set) for one in held if isinstance(one, str)]
    found = fault(patterns, names)
    if found is not None:
        raise ConfigError(f"{where}: its patterns of layers {found}. Use a folder that fit wrote.")


def check_layered(settings: Mapping[str, Mapping[str, float]], names: Sequence[str], adapted: Sequence[str]) -> None:
    """Refuse patterns of a config that do not end, or that fit no layer that gets an update.

    Args:
        settings: the patterns, by the setting of `lora` they stand in.
        names: of all layers of the base.
        adapted: of those that get an update.

    Raises:
        ConfigError: naming the setting and the pattern.
    """
    for setting, patterns in settings.items():
        for pattern in patterns:
            found = fault([pattern], names)
            if found is not None:
                raise ConfigError(
                    f"lora.{setting} has the key {pattern!r}, which {found} on a layer's name. Write the end of one, "
                    "such as q_proj."
                )
        for pattern in patterns:
            if not any(first_that_fits(patterns, name) == pattern for name in adapted):
                raise ConfigError(
                    f"lora.{setting} has the key {pattern!r}, and for no layer that gets an update is it the first to "
                    f"fit. Such layers: {', '.join(adapted[:2]) or 'none'}. Write the end of a name, or leave it out."
                )


def by_layer(patterns: Mapping[str, Value], names: Sequence[str]) -> dict[str, Value]:
    """What patterns give each layer, by its name; layers that none fits are left out."""
    deciding = ((name, first_that_fits(patterns, name)) for name in names)
    return {name: patterns[pattern] for name, pattern in deciding if pattern is not None}


def first_that_fits(patterns: Iterable[str], name: str) -> str | None:
    """The pattern that decides about a layer, as PEFT finds it."""
    return next((one for one in patterns if re.match(rf"(.*\.)?({one})$", name)), None)


def fault(patterns: Sequence[str], names: Sequence[str]) -> str | None:
    """What is wrong with patterns, as the end of a sentence; None where each ends on every name."""
    if all(re.fullmatch(r"[\w.]*", one) for one in patterns):
        return None  # names are no patterns
    process = multiprocessing.get_context("fork").Process(target=_match, args=(patterns, names), daemon=True)
    process.start()
    process.join(MAX_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return "do not end" if len(patterns) > 1 else "does not end"
    return "are none" if process.exitcode else None


def _match(patterns: Sequence[str], names: Sequence[str]) -> None:
    try:
        compiled = [re.compile(rf"(?:.*\.)?(?:{one})") for one in patterns]
    except (re.error, RecursionError, OverflowError):
        raise SystemExit(1) from None
    for one in compiled:
        for name in names:
            one.fullmatch(name)
            re.match(one.pattern + "$", name)
