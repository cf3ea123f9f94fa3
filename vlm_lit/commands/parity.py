"""`parity`: say how often two servers of one model answer alike, and at which token they part. No model is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from vlm_lit.commands.options import OptionParser, share, whole_number
from vlm_lit.commands.output_files import write_output
from vlm_lit.errors import printable


def run(verb: str, arguments: Sequence[str]) -> int:
    """Compare, write and print; the exit status: 1 where they agree less than `--least`."""
    parser = OptionParser(verb, description=__doc__)
    parser.add_argument(
        "answers", type=Path, nargs="*", metavar="ANSWERS",
        help="a run's directory, or a JSON Lines file with id, prediction and, if known, token_ids and image_id",
    )  # fmt: skip
    parser.add_argument("--least", type=share, default=0.0, help="smallest share of equal answers; exit status 1 below")
    parser.add_argument("--examples", type=whole_number(0), default=5, help="answers that differ to be shown")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON file with all that differ")
    options = parser.parse_intermixed_args(arguments)
    if len(options.answers) != 2:
        parser.error(f"two files or runs must be given, got {len(options.answers)}")
    from vlm_lit.studies.comparing.parity import as_text, parity, read_served
    from vlm_lit.studies.run_files.systems import distinct_names

    first, second = map(read_served, options.answers)
    found = parity(first, second)
    if options.output is not None:
        write_output(options.output, json.dumps(asdict(found), indent=1) + "\n")
    text = as_text(found, distinct_names(options.answers), options.examples)
    print("\n".join(printable(line) for line in text.splitlines()))
    return 1 if found.agreement < options.least else 0
