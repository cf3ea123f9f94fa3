"""`anatomy`: show how large each LoRA update of a run's adapter is, and of which rank. No model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlm_lit.commands.options import OptionParser
from vlm_lit.commands.output_files import write_files

_EPILOG = """An update is scale * B A, as the adapter's files hold it. Its norm is the Frobenius norm; `largest` is its
largest singular value; the stable rank, norm squared over largest squared, is 1 where one direction is everything."""


def run(verb: str, arguments: Sequence[str]) -> int:
    """Read the adapter, print the table, write table and plots where a folder is named; the exit status.

    Raises:
        VlmLitError: there is no adapter, it is damaged, or the folder cannot be written.
    """
    parser = OptionParser(verb, description=__doc__, epilog=_EPILOG)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory, or its folder adapter/")
    parser.add_argument("--output", type=Path, help="folder for updates.csv and the plots, as .png and .svg")
    options = parser.parse_args(arguments)
    from vlm_lit.studies.page_parts.adapter_anatomy_plots import anatomy_plots
    from vlm_lit.studies.page_parts.adapter_anatomy_text import anatomy_csv, anatomy_table
    from vlm_lit.studies.run_files.adapter_anatomy import adapter_anatomy

    anatomy = adapter_anatomy(options.run)
    print(anatomy_table(anatomy))
    if options.output is not None:
        files: dict[str, str | bytes] = {"updates.csv": anatomy_csv(anatomy), **anatomy_plots(anatomy)}
        write_files(options.output, files)
        print(f"Written to {options.output}: {', '.join(files)}")
    return 0
