"""`fit`, `validate`, `test` and `predict`: help and option errors without heavy imports, then the run."""

from __future__ import annotations

from collections.abc import Sequence

from vlm_lit.commands.early_check import check
from vlm_lit.commands.help_page import asked_help
from vlm_lit.commands.verbs import VERBS


def run(verb: str, arguments: Sequence[str]) -> int:
    """Show the help that is asked for, or run the verb; the exit status.

    Raises:
        VlmLitError: something in the command line or the config cannot be used.
    """
    page = asked_help(verb, VERBS[verb].help, arguments)
    if page is not None:
        print(page)
        return 0
    check(verb, arguments)
    from vlm_lit.commands.lightning import run as run_lightning

    return run_lightning(verb, arguments)
