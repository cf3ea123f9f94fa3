"""`certify`: write down by digests what a run was made of, or check such a certificate and do some steps again.

`certify RUN` writes RUN/certificate.json. `certify --check FILE` compares it with the data, base, processor, config and
weights that lie here, does some steps again from a kept checkpoint, and compares them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from vlm_lit.commands.options import OptionParser, share, whole_number
from vlm_lit.commands.output_files import write_output
from vlm_lit.commands.verbs import program
from vlm_lit.errors import ConfigError

_EPILOG = """Options of fit go behind: --data.train.path, --data.val.path and --model.model_id say where data and base
lie on this machine; any other that changes numbers is found and named. --config FILE checks that config instead of
the one beside the certificate. Exits with 0 where all is as the certificate says, with 1 where something is not."""


def run(verb: str, arguments: Sequence[str]) -> int:
    """Certify, or check; the exit status.

    Raises:
        VlmLitError: there is no run or no certificate, or it cannot be opened here.
    """
    options, of_fit = _parsed(verb, arguments)
    if options.check is None:
        return _certify(options, of_fit)
    from vlm_lit.commands.certificate_check import checked
    from vlm_lit.commands.certificate_text import as_json, as_text

    with redirect_stdout(sys.stderr):
        found = checked(options.check, of_fit, start=options.start, steps=options.steps, tolerance=options.tolerance)
    text = as_text(found) if options.format == "text" else json.dumps(as_json(found), indent=2) + "\n"
    if options.output is None:
        print(text, end="")
    else:
        write_output(options.output, text)
    return 0 if found.holds else 1


def _parsed(verb: str, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    # No positional argument: argparse would take the value of an option of fit for it.
    named = [Path(word) for word in arguments[:1] if not word.startswith("-")]
    parser = OptionParser(
        verb, description=__doc__, epilog=_EPILOG, usage=f"{program()} {verb} (RUN | --check FILE) [options]"
    )
    parser.add_argument(
        "--check", type=Path, metavar="FILE", help="certificate to check, in its run directory or alone"
    )
    parser.add_argument("--steps", type=whole_number(0), help="optimizer steps to do again; 0 does none")
    parser.add_argument(
        "--start", type=whole_number(0), help="step of the kept checkpoint to begin from; 0: from the start"
    )
    parser.add_argument("--tolerance", type=share, default=0.01, help="of a loss, where bits cannot be asked for")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="what to write of a check")
    parser.add_argument("--output", type=Path, help="file for the certificate, or for what the check says")
    options, rest = parser.parse_known_args(arguments[len(named) :])
    options.run = named[0] if named else None
    if (options.run is None) == (options.check is None):
        parser.error("give either RUN, to certify it, or --check FILE")
    return options, rest


def _certify(options: argparse.Namespace, of_fit: Sequence[str]) -> int:
    from vlm_lit.commands.certificate_text import written
    from vlm_lit.commands.certified_run import certified
    from vlm_lit.training.certifying.certificate import FILE, as_json

    target: Path = options.output or options.run / FILE
    if target.exists():
        raise ConfigError(
            f"{target} is there already. Check it by --check {target}; to write another, delete it or name --output."
        )
    with redirect_stdout(sys.stderr):
        certificate = certified(options.run, of_fit)
    write_output(target, as_json(certificate))
    print(written(certificate, target))
    return 0
