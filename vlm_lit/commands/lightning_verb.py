"""`fit`, `validate`, `test` and `predict`: help and option errors without heavy imports, then the run."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Sequence

from vlm_lit.commands.early_check import check
from vlm_lit.commands.help_page import asked_help
from vlm_lit.commands.verbs import VERBS
from vlm_lit.errors import VlmLitError
from vlm_lit.training.slurm_job import starting


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
    return ended(lambda: _run(verb, arguments))


def _run(verb: str, arguments: Sequence[str]) -> None:
    from vlm_lit.commands.lightning import VlmLitCLI
    from vlm_lit.commands.process_rules import refusing

    with refusing():
        VlmLitCLI(verb, arguments)


def ended(run: Callable[[], object]) -> int:
    """The exit status of what Lightning runs, which is that of a shell's where a signal ended it."""
    with starting():
        return _ended(run)


def _import_libraries() -> None:
    """Import what training takes, without searches for circles of objects: they took a fifth of the time.

    The 700,000 objects of the libraries stay, so they are set aside from all later searches. Data workers, which are
    forked, then share their memory for good: a search writes into every object it looks at.
    """
    if "lightning" in sys.modules:  # then there may be objects beside the libraries' that are to go again
        return
    searched = gc.isenabled()
    gc.disable()
    try:
        import vlm_lit.commands.lightning  # noqa: F401

        gc.freeze()
    finally:
        if searched:
            gc.enable()


def _ended(run: Callable[[], object]) -> int:
    _import_libraries()
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from vlm_lit.training.rank_links import LOST, STATUS
    from vlm_lit.training.stop_signals import stopping_at_once

    try:
        with stopping_at_once():
            run()
    except SIGTERMException as stop:
        return stop.code if isinstance(stop.code, int) else 128 + signal.SIGTERM
    except SystemExit as stop:
        # What Lightning makes of a KeyboardInterrupt.
        if isinstance(stop.__context__, KeyboardInterrupt):
            return 128 + signal.SIGINT
        raise
    except VlmLitError:  # ours, even where another rank has said the same and left
        raise
    except Exception:
        if LOST:  # what a collective says of it is no news
            return STATUS
        raise
    return 0
