"""`curate`: make one data set of pictures and question files from several sources, and account for each of their rows.

`curate template FOLDER` writes records for a folder of pictures, with places for the words.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vlm_lit.commands.curate_options import curation_settings
from vlm_lit.commands.options import OptionParser
from vlm_lit.curation.settings import CurationSettings

_TEMPLATE = "template"


def run(verb: str, arguments: Sequence[str]) -> int:
    """Curate, or write a template; the exit status."""
    if arguments and arguments[0] == _TEMPLATE:
        return _template(f"{verb} {_TEMPLATE}", arguments[1:])
    _curate(curation_settings(verb, __doc__, arguments))
    return 0


def _curate(settings: CurationSettings) -> None:
    from vlm_lit.commands.curate_text import as_text, shown_bar
    from vlm_lit.curation.previous import earlier_pictures, same_rules
    from vlm_lit.curation.run import curate
    from vlm_lit.curation.settings import rules_of
    from vlm_lit.curation.writing import PAGE, staged, write

    output = Path(settings.output).expanduser()
    with staged(output, overwrite=settings.overwrite) as staging:
        before = Path(settings.previous).expanduser() if settings.previous is not None else None
        if before is None and same_rules(output, rules_of(settings)):
            before = output
        earlier = earlier_pictures(before) if before is not None else []
        if before is not None:
            print(f"{len(earlier):,} pictures keep the split that they have in {before}", file=sys.stderr)
        result = curate(settings, staging, output, earlier, shown_bar)
        counts = write(result, staging)
    print(as_text(counts))
    print(f"Page: {output / PAGE}")


def _template(verb: str, arguments: Sequence[str]) -> int:
    from vlm_lit.curation.template import write_template

    description = "Write a record for each picture of a folder, with places for the question and the answer."
    parser = OptionParser(verb, description=description, epilog="Training refuses a record until both are written.")
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="folder of the pictures")
    parser.add_argument(
        "--question", action="append", default=[], help="to be answered of every picture; may be given several times"
    )
    parser.add_argument("--output", type=Path, help="file to write; annotate.jsonl in the folder where not given")
    options = parser.parse_intermixed_args(arguments)
    if options.folder is None:
        parser.error("FOLDER must be given")
    file, count = write_template(options.folder, options.question, options.output)
    print(f"{count:,} records to fill in: {file}")
    return 0
