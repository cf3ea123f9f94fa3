"""Which verb was asked for? The one door; it imports nothing heavy until it knows."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from vlm_lit import __version__
from vlm_lit.commands.quiet import quiet
from vlm_lit.schema import VlmLitError

_LIGHTNING: Final = "vlm_lit.commands.lightning:run"


@dataclass(frozen=True)
class Verb:
    """One word of the command line: what it does, and the `module:function` that does it."""

    help: str
    target: str


VERBS: Final[dict[str, Verb]] = {
    "fit": Verb("fine-tune a model on image conversations", _LIGHTNING),
    "validate": Verb("answer the validation questions and judge the answers", _LIGHTNING),
    "test": Verb("answer the test questions and judge the answers", _LIGHTNING),
    "predict": Verb("answer questions without judging the answers", _LIGHTNING),
    "inspect": Verb("show what would be trained and supervised, before it is", "vlm_lit.commands.inspect:run"),
    "budget": Verb("reckon what memory and disk a fit would need, before renting them", "vlm_lit.commands.budget:run"),
    "cache": Verb("compute the images' vision features ahead of a fit", "vlm_lit.commands.cache:run"),
    "verify": Verb("prove on this model and data that every shortcut changes nothing", "vlm_lit.commands.verify:run"),
    "merge": Verb("merge an adapter into its 16-bit base, as a model of its own", "vlm_lit.commands.merge:run"),
    "score": Verb("judge the answers in a file by a benchmark's metric", "vlm_lit.commands.score:run"),
    "compare": Verb("compare runs item by item, with intervals and a page to read", "vlm_lit.commands.compare:run"),
    "study": Verb("run a grid of runs from one file, and report what it shows", "vlm_lit.commands.study:run"),
    "workbench": Verb(
        "write the built-in data set and its tiny base model to a folder", "vlm_lit.commands.workbench:run"
    ),
}


def usage() -> str:
    """The text of `--help`."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: python -m vlm_lit <verb> [options]",
            "",
            "Fine-tune vision-language models with PyTorch Lightning.",
            "",
            *lines,
            "",
            "python -m vlm_lit <verb> --help lists a verb's options.",
            "VLM_LIT_TRACEBACK=1 shows where in the code an error arose.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the process's exit status. 2 means the user can mend what went wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(__version__)
        return 0
    if words[0] not in VERBS:
        near = get_close_matches(words[0], VERBS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        print(f"error: {words[0]!r} is not a verb.{hint} Verbs are: {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    return _run(words[0], words[1:])


def _share_cores() -> None:
    """Let OpenMP's threads wait for each other briefly instead of without end. It reads this when it is loaded.

    On a machine that does something else as well, two spinning threads took 9.5 s for a step of the quickstart's model
    and these 2.0 s; undisturbed, 0.55 s and 0.58 s (2 cores, in one run).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")


def _run(verb: str, arguments: Sequence[str]) -> int:
    _share_cores()
    quiet()
    try:
        return _function(VERBS[verb].target)(verb, arguments)
    except VlmLitError as error:
        if os.environ.get("VLM_LIT_TRACEBACK"):
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # as a shell counts it


def _function(target: str) -> Callable[[str, Sequence[str]], int]:
    module, name = target.split(":")
    function: Callable[[str, Sequence[str]], int] = getattr(importlib.import_module(module), name)
    return function
