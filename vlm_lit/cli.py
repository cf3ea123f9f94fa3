"""Entry point of the command line: finds the verb that was asked for, before anything heavy is imported."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Final

from vlm_lit import __version__
from vlm_lit.commands.plain_output import plain_output
from vlm_lit.commands.quiet import quiet
from vlm_lit.commands.verbs import VERBS, Verb, program
from vlm_lit.errors import VlmLitError, nearest, printable
from vlm_lit.files.disk_errors import disk_refusal

__all__ = ["SPIN_COUNT", "VERBS", "Verb", "main", "usage"]

SPIN_COUNT: Final = "3000"
"""How often a thread of OpenMP's looks for work before it sleeps, unless the environment says it."""


def usage() -> str:
    """The text of `--help`."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            f"usage: {program()} <verb> [options]",
            "",
            "Fine-tune vision-language models with PyTorch Lightning.",
            "",
            *lines,
            "",
            f"{program()} <verb> --help lists a verb's options. Begin with: {program()} workbench --output workbench",
            "VLM_LIT_TRACEBACK=1 shows where in the code an error arose.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the process's exit status. 2 means the user can mend what went wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        return _said(usage()) or (0 if words else 2)
    if words[0] == "--version":
        return _said(__version__)
    if words[0] not in VERBS:
        near = nearest(words[0], VERBS)
        hint = f" Did you mean {near!r}?" if near else ""
        print(f"error: {words[0]!r} is not a verb.{hint} Verbs are: {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    return _run(words[0], words[1:])


def _share_cores() -> None:
    """Let OpenMP's threads wait for each other briefly instead of without end. It reads this when it is loaded.

    scripts/benchmark/README.md, "Beside other work", has what it costs alone and gains.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def _run(verb: str, arguments: Sequence[str]) -> int:
    _share_cores()
    quiet()
    with plain_output():
        return _ended(verb, arguments)


def _ended(verb: str, arguments: Sequence[str]) -> int:
    """The exit status of a verb that has ended, its errors said."""
    try:
        return _function(VERBS[verb].target)(verb, arguments)
    except BrokenPipeError:
        return _unread()
    except VlmLitError as error:
        if os.environ.get("VLM_LIT_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except Exception as error:
        refused = disk_refusal(error)
        if refused is None:
            raise
        if os.environ.get("VLM_LIT_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {printable(refused)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # as a shell counts it


def _said(text: str) -> int:
    """The exit status of a text that was printed."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        return _unread()
    return 0


def _unread() -> int:
    """The exit status where whoever reads our output has seen enough: `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest when it ends
    return 128 + signal.SIGPIPE


def _function(target: str) -> Callable[[str, Sequence[str]], int]:
    module, name = target.split(":")
    function: Callable[[str, Sequence[str]], int] = getattr(importlib.import_module(module), name)
    return function
