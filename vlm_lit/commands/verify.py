"""`verify`: measure on this model and this data that every shortcut gives what the plain computation gives."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_lit.commands.early_check import check
from vlm_lit.commands.options import OptionParser, whole_number
from vlm_lit.commands.output_files import write_output

if TYPE_CHECKING:
    from vlm_lit.preflight.equality import Equality

_EPILOG = """Takes the config files and overrides of fit. Exits with 0 if every equality holds or is refused with its
reason, with 1 if one does not hold. For the equality of ranks it starts two processes, on the CPU or on two GPUs, each
of which loads the model. Resumption (equality 6) is left to the tests."""


def run(verb: str, arguments: Sequence[str]) -> int:
    """Verify and show; the exit status.

    Raises:
        VlmLitError: whatever `fit` would refuse.
    """
    parser = OptionParser(verb, description=__doc__, epilog=_EPILOG)
    parser.add_argument("--conversations", type=whole_number(2), default=8, help="how many (or pairs) to compute on")
    parser.add_argument("--ranks", type=int, choices=(1, 2), default=2, help="1 leaves two processes unstarted")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="what to write")
    parser.add_argument("--output", type=Path, help="file to write instead of standard output")
    options, of_fit = parser.parse_known_args(arguments)
    check("fit", of_fit)
    with redirect_stdout(sys.stderr):
        found = _equalities(options.conversations, of_fit, options.ranks)
    text = json.dumps([asdict(equality) for equality in found], indent=2) + "\n"
    if options.format == "text":
        text = table(found)
    if options.output is None:
        print(text, end="")
    else:
        write_output(options.output, text)
    return 1 if any(equality.verdict == "DIFFERENT" for equality in found) else 0


def _equalities(count: int, of_fit: Sequence[str], ranks: int) -> list[Equality]:
    from vlm_lit.commands.verified_run import measured
    from vlm_lit.commands.verify_ranks import ranks_equalities

    measures, trainer = measured(of_fit, count)
    found = []
    with trainer.precision_plugin.train_step_context():
        # Ahead of the others, of which some take steps; told behind them.
        together = ranks_equalities(measures, count, of_fit, wanted=ranks > 1)
        for equality in chain(measures.equalities(), together):
            print(f"{equality.name}: {equality.verdict}", file=sys.stderr, flush=True)
            found.append(equality)
    return found


def table(equalities: Sequence[Equality]) -> str:
    """The equalities as aligned text."""
    header = ("", "claim", "verdict", "loss differs by", "gradient by", "")
    body = [(e.name, e.claim, e.verdict, _shown(e.loss), _shown(e.gradient), e.note) for e in equalities]
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (header, *body)]
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
