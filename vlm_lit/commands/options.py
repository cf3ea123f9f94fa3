"""What does a verb with options of its own say about a mistyped one? One sentence, as every error here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import NoReturn

from vlm_lit.schema import ConfigError


class OptionParser(argparse.ArgumentParser):
    """Argparse whose errors are one sentence with the option that was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print.

        Raises:
            ConfigError: always.
        """
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        near = get_close_matches(unknown[1].partition("=")[0], self._option_string_actions, n=1) if unknown else []
        stop = "" if message.endswith("?") else "."
        raise ConfigError(f"{self.prog}: {message}{stop}" + (f" Did you mean {near[0]}?" if near else ""))


def whole_number(least: int) -> Callable[[str], int]:
    """What reads an option that is a whole number from `least` up."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least} up")
        return int(text)

    return read


def share(text: str) -> float:
    """Read an option that is a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:  # nan is refused as well
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return value
