"""Option parser of verbs with options of their own: errors of one sentence, help with an example."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn

from vlm_lit.commands.verbs import EXAMPLES, program
from vlm_lit.errors import ConfigError, nearest


class HelpLayout(argparse.RawDescriptionHelpFormatter):
    """Help with the default of every option that has one, its lines broken in the options only."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default not in (None, False, [], argparse.SUPPRESS) and bool(action.option_strings)
        return f"{action.help or ''} (default: %(default)s)".strip() if shown else action.help


class OptionParser(argparse.ArgumentParser):
    """Argparse whose errors are one sentence with the option that was probably meant, and whose help has an example.

    Args:
        verb: the word or words behind the program's name.
        description: what it does; the module's docstring, without the verb before it.
        epilog: what stands below the options.
    """

    def __init__(self, verb: str, *, description: str | None = None, epilog: str = "", **options: Any) -> None:  # noqa: ANN401
        words = re.sub(r"^`[^`]+`: ", "", (description or "").strip().split("\n\n")[0])
        example = f"example: {program()} {EXAMPLES[verb]}" if verb in EXAMPLES else ""
        below = "\n\n".join(part for part in (epilog.strip(), example) if part)
        super().__init__(
            f"{program()} {verb}",
            description=textwrap.fill(words[:1].upper() + words[1:], 100),
            epilog=below,
            allow_abbrev=False,
            formatter_class=HelpLayout,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print.

        Raises:
            ConfigError: always.
        """
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        near = nearest(unknown[1].partition("=")[0], self._option_string_actions) if unknown else None
        stop = "" if message.endswith("?") else "."
        raise ConfigError(f"{self.prog}: {message}{stop}" + (f" Did you mean {near}?" if near else ""))


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
