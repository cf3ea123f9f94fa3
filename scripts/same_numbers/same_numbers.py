"""A comparison of two commits by their numbers: the same losses, adapters, answers and results, byte for byte, or not.

    python scripts/same_numbers/same_numbers.py main .                         # a commit, and the files as they stand
    python scripts/same_numbers/same_numbers.py main --record before.json      # one commit, kept
    python scripts/same_numbers/same_numbers.py before.json . --jobs quickstart,qwen

Each commit runs its own code and configs in a git worktree that is removed afterwards; `.` is the tree that this script
stands in, with what is not committed. Tiny checkpoints and data are made once, with the test helpers of that tree, and
given to both. Everything runs on the CPU. The exit status is 1 where anything differs or fails, and 2 where nothing
could be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from commit_tree import SameNumbersError, checked_out, commit_name, git, run_code
from number_records import Record, check_inputs, compare, failures, read_record, table_json, table_text
from run_numbers import digest, machine
from same_jobs import JOBS, numbers_of

HERE = Path(__file__).resolve().parent


def main(words: Sequence[str] | None = None) -> int:
    """Parse the options, run what is not recorded, print the table; the exit status."""
    options = _parser().parse_args(words)
    try:
        return _compared(options)
    except SameNumbersError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _compared(options: argparse.Namespace) -> int:
    asked = [name for name in (options.before, options.after) if name is not None]
    if len(asked) == 1 and options.record is None:
        raise SameNumbersError(
            "Name a second commit to compare with, or --record FILE to keep the numbers of this one."
        )
    kept = [read_record(Path(name)) if name.endswith(".json") else None for name in asked]
    names = _job_names(options, kept)
    whole = [record for record in kept if record is not None]
    records = whole if len(whole) == len(asked) else _measured(asked, kept, names, options)
    before, last = records[0], records[-1]
    if options.record is not None:
        options.record.write_text(last.to_json(), encoding="utf-8")
        print(f"The numbers of {last.commit} are kept in {options.record}")
    if len(asked) == 1:
        print(failures(last), end="")
        return 1 if failures(last) else 0
    check_inputs(before, last.inputs, names)
    compared = compare(before, last, names)
    if options.table is not None:
        options.table.write_text(json.dumps(table_json(before, last, compared), indent=2) + "\n", encoding="utf-8")
    print(table_text(before, last, compared))
    return 0 if all(found.same for row in compared.values() for found in row.values()) else 1


def _measured(
    asked: Sequence[str], kept: Sequence[Record | None], names: Sequence[str], options: argparse.Namespace
) -> list[Record]:
    """A record for each that was asked for: as it was kept, or made by running the commit here."""
    root = Path(git(HERE, "rev-parse", "--show-toplevel"))
    commits = [name if record else commit_name(root, name) for name, record in zip(asked, kept, strict=True)]
    keys = dict(pair.split("=", 1) for pair in options.key)
    records = []
    with tempfile.TemporaryDirectory(prefix="same_numbers-") as folder:
        home = Path(folder).resolve()
        inputs = _inputs(root, home / "inputs", names)
        for place, (name, commit, record) in enumerate(zip(asked, commits, kept, strict=True)):
            if record is not None:
                check_inputs(record, inputs, names)
                records.append(record)
                continue
            print(f"{commit}: {', '.join(names)}", flush=True)
            with checked_out(root, name, home / f"tree-{place}") as tree:
                place_of_runs = home / f"runs-{place}"
                jobs = numbers_of(tree, place_of_runs, home / "inputs", names, options.easy_vqa, keys, options.workers)
            records.append(Record(commit=commit, machine=machine(), inputs=inputs, jobs=jobs))
    return records


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="a commit, . for the tree as it stands, or the .json file of a record")
    parser.add_argument("after", nargs="?", help="the same; left out, BEFORE is only recorded")
    parser.add_argument("--jobs", help=f"those to run, of {','.join(JOBS)}; all, or those of the record, if left out")
    parser.add_argument(
        "--easy_vqa", type=_folder, help="folder of the easy-VQA data set; its job is left out without it"
    )
    parser.add_argument("--record", type=Path, help="keep the numbers of the last commit named in this file")
    parser.add_argument("--table", type=Path, help="write the table as JSON too")
    parser.add_argument("--workers", type=int, default=2, help="jobs run at the same time, each on one thread")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="a config key that one commit knows by another name",
    )
    return parser


def _folder(name: str) -> Path:
    """A folder by its full path, since commands run elsewhere."""
    path = Path(name).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{name} is no folder.")
    return path


def _job_names(options: argparse.Namespace, kept: Sequence[Record | None]) -> list[str]:
    """The jobs to compare, in their usual order."""
    recorded = [name for name in JOBS if all(record is None or name in record.jobs for record in kept)]
    asked = options.jobs.split(",") if options.jobs else recorded
    for name in asked:
        if name not in JOBS:
            raise SameNumbersError(f"--jobs {name} is none. There are {', '.join(JOBS)}.")
        if name not in recorded:
            raise SameNumbersError(f"The record has no job {name}. It has {', '.join(recorded)}; record it again.")
    if options.easy_vqa is None and "easy_vqa" in asked and None in kept:
        print("easy_vqa is left out: name its data with --easy_vqa FOLDER.")
        asked = [name for name in asked if name != "easy_vqa"]
    if not asked:
        raise SameNumbersError("No job is left to compare.")
    return [name for name in JOBS if name in asked]


def _inputs(root: Path, folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Make the tiny checkpoints and data in a process of its own; the digest of each."""
    wanted = sorted({name for job in names for name in JOBS[job].inputs})
    run_code(root, folder.parent, [str(HERE / "tiny_inputs.py"), str(root), str(folder), *wanted])
    return {name: digest(folder / name) for name in wanted}


if __name__ == "__main__":
    sys.exit(main())
