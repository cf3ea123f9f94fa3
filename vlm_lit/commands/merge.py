"""`merge`: make an adapter part of its 16-bit base, as a checkpoint that other programs load as their own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vlm_lit.commands.options import OptionParser


def run(verb: str, arguments: Sequence[str]) -> int:
    """Parse the options, merge, and upload if asked; the exit status."""
    parser = OptionParser(verb, description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN", help="a run's directory, or its adapter/ folder")
    parser.add_argument("--output", type=Path, help="folder to write the merged model to")
    parser.add_argument("--dtype", choices=("bf16", "fp16", "fp32"), default="bf16", help="dtype of its weights")
    parser.add_argument("--base", help="folder or hub id of the base, if it is not where it was trained from")
    parser.add_argument("--push", metavar="ORG/NAME", help="upload it to the hub, with the login you have there")
    parser.add_argument("--private", action="store_true", help="upload it for its owners' eyes only")
    options = parser.parse_args(arguments)
    for name, shown in (("run", "RUN"), ("output", "--output")):  # here, so that a mistyped --output is named first
        if getattr(options, name) is None:
            parser.error(f"{shown} must be given")
    if options.private and options.push is None:
        parser.error("--private says how to upload, and --push is not given")
    _merge(options)
    return 0


def _merge(options: argparse.Namespace) -> None:
    from vlm_lit.commands.merge_run import merge_run
    from vlm_lit.commands.upload import check_upload, upload

    if options.push is not None:
        check_upload(options.push)
    merged = merge_run(
        options.run, options.output, dtype=options.dtype, base=options.base, name=options.push, say=print
    )
    print("\n".join([*(f"warning: {words}" for words in merged.warnings), *merged.sentences]))
    print(f"Written to {merged.folder}")
    if options.push is not None:
        print(f"Uploaded: {upload(merged.folder, options.push, private=options.private)}")
