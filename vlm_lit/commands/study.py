"""`study`: a grid of runs from one file, worked off by any number of workers, and what it shows."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Final

from vlm_lit.commands.verbs import program
from vlm_lit.errors import ConfigError, nearest

_ACTIONS: Final[dict[str, tuple[str, str]]] = {
    "run": ("run the cells that are not finished; the same command starts another worker", "study_run"),
    "status": ("show each cell: its levels, its state, what it measured, why it failed", "study_status"),
    "report": ("write what the cells say, with intervals, tables and figures", "study_report"),
}


def usage(verb: str) -> str:
    """The text of `study --help`."""
    width = max(map(len, _ACTIONS))
    lines = [f"  {name:<{width}}  {shown}" for name, (shown, _) in _ACTIONS.items()]
    return "\n".join(
        [
            f"usage: {program()} {verb} <action> FILE [options]",
            "",
            "A grid of runs from one YAML file (see configs/study/).",
            "",
            *lines,
            "",
            f"{program()} {verb} <action> --help lists an action's options.",
        ]
    )


def run(verb: str, arguments: Sequence[str]) -> int:
    """Hand over to the action that was asked for; the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(verb))
        return 0 if arguments else 2
    action, *rest = arguments
    if action not in _ACTIONS:
        near = nearest(action, _ACTIONS)
        hint = f" Did you mean {near}?" if near else ""
        raise ConfigError(f"{verb} {action}: is no action.{hint} There are: {', '.join(_ACTIONS)}.")
    module = importlib.import_module(f"vlm_lit.commands.{_ACTIONS[action][1]}")
    function: Callable[[str, Sequence[str]], int] = module.run
    return function(f"{verb} {action}", rest)
