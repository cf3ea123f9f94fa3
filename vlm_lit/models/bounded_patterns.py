"""Regular expressions of an adapter's settings, tried in a process that may be stopped before any is used here.

PEFT matches each against the name of every layer. A few letters such as `(a+)+$` take years on one name.
"""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Mapping, Sequence
from typing import Final

from peft import LoraConfig

from vlm_lit.errors import ConfigError

MAX_SECONDS: Final = 4.0


def check_patterns(config: LoraConfig, names: Sequence[str], where: str) -> None:
    """Refuse patterns of an adapter that do not end.

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
    if all(re.fullmatch(r"[\w.]*", one) for one in patterns):
        return  # names are no patterns
    process = multiprocessing.get_context("fork").Process(target=_match, args=(patterns, names), daemon=True)
    process.start()
    process.join(MAX_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        raise ConfigError(f"{where}: its patterns of layers do not end. Use a folder that fit wrote.")
    if process.exitcode:
        raise ConfigError(f"{where}: its patterns of layers are none. Use a folder that fit wrote.")


def _match(patterns: Sequence[str], names: Sequence[str]) -> None:
    try:
        compiled = [re.compile(rf"(?:.*\.)?(?:{one})") for one in patterns]
    except (re.error, RecursionError, OverflowError):
        raise SystemExit(1) from None
    for one in compiled:
        for name in names:
            one.fullmatch(name)
            re.match(one.pattern + "$", name)
