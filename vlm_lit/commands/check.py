"""`check`: go through all records of a config's data, and list those that cannot be used. No model is loaded."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vlm_lit.commands.early_check import check
from vlm_lit.commands.options import OptionParser
from vlm_lit.errors import ConfigError, printable
from vlm_lit.files.whole import write_whole

if TYPE_CHECKING:
    from vlm_lit.data.records.record_dataset import RecordDataset

_SPLITS: Final = ("train", "val", "test", "predict")
_EPILOG: Final = """Takes the config files and overrides of fit: fit --help lists them. Writes a line for each
record that cannot be used: the split, the reason in one word, the record and what to do about it. Exits with 0 if every
record can be used, with 1 if one cannot, with 2 if the config or a whole file is refused."""


def run(verb: str, arguments: Sequence[str]) -> int:
    """Check, list what is bad, and write the report; the exit status.

    Raises:
        VlmLitError: the config cannot be read, or what is wrong is no single record's fault.
    """
    parser = OptionParser(verb, description=__doc__, epilog=_EPILOG)
    parser.add_argument(
        "--split", choices=_SPLITS, action="append", help="which data to check, once or more; all by default"
    )
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    options, of_fit = parser.parse_known_args(arguments)
    check("fit", of_fit)
    # The libraries print where they like; standard output is for the records alone.
    with redirect_stdout(sys.stderr):
        datasets = _checked(of_fit, options.split)
    report = {split: _report(dataset) for split, dataset in datasets.items()}
    for split, dataset in datasets.items():
        for one in dataset.skipped:
            print(f"{split}\t{one.code}\t{printable(' '.join(str(one.error).split()))}")
    for split, found in report.items():
        print(f"{split}: {_words(found)}", file=sys.stderr)
    if options.output is not None:
        _write(options, report)
    return 1 if any(dataset.skipped for dataset in datasets.values()) else 0


def _checked(arguments: Sequence[str], splits: Sequence[str] | None) -> dict[str, RecordDataset[Any]]:
    from vlm_lit.commands.unopened_run import unopened
    from vlm_lit.data.record_datamodule import RecordDataModule

    data = unopened(arguments).datamodule
    if not isinstance(data, RecordDataModule):
        raise ConfigError(
            "check knows a data module of records, such as ConversationDataModule; this config asks for "
            f"{type(data).__name__}."
        )
    given = [split for split in _SPLITS if data.sources[split] is not None]
    missing = [split for split in splits or () if split not in given]
    if missing or not given:
        name = missing[0] if missing else "train"
        raise ConfigError(f"There is nothing to check: set data.init_args.{name} to a file or a hub id.")
    return {split: data.examined(split) for split in given if splits is None or split in splits}


def _report(dataset: RecordDataset[Any]) -> dict[str, Any]:
    bad = dataset.skipped
    codes = sorted({one.code for one in bad})
    return {
        "records": len(dataset) + len(bad),
        "bad": len(bad),
        "codes": {code: sum(one.code == code for one in bad) for code in codes},
        "bad_records": [asdict(one) for one in bad],
    }


def _words(found: Mapping[str, Any]) -> str:
    if not found["bad"]:
        return f"all {found['records']:,} records can be used."
    kinds = ", ".join(f"{code} ({count:,})" for code, count in found["codes"].items())
    return f"{found['bad']:,} of {found['records']:,} records cannot be used: {kinds}."


def _write(options: argparse.Namespace, report: Mapping[str, Any]) -> None:
    try:
        write_whole(options.output, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ConfigError(
            f"--output {options.output} cannot be written: {error.strerror}. Name another file."
        ) from error
    print(f"Written to {options.output}", file=sys.stderr)
