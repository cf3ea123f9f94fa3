"""Writing of a curation: a folder beside the one that is meant, which takes its name when all of it is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vlm_lit.curation.candidates import HELD, PICTURES
from vlm_lit.curation.lines import contradiction_lines, duplicate_lines, kept_line, merged_line, rejected_line
from vlm_lit.curation.outcomes import KeptRow, MergedRow, check_sum
from vlm_lit.curation.page import as_page
from vlm_lit.curation.placing import SPLITS
from vlm_lit.curation.previous import PICTURE_LIST, SUMMARY, picture_lines
from vlm_lit.curation.run import CurationResult
from vlm_lit.curation.summary import summary
from vlm_lit.errors import ConfigError
from vlm_lit.files.staged import staging_path, sweep
from vlm_lit.files.whole import settle, write_whole

PAGE: Final = "curation.html"
REJECTS: Final = "rejects.jsonl"
MERGED: Final = "merged.jsonl"


@contextmanager
def staged(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty folder that takes the name of `output` where its body ends well, and goes away where it does not.

    Raises:
        ConfigError: `output` cannot be made, or holds something that may not be replaced.
    """
    folder = output.resolve() if output.is_symlink() else output.absolute()
    sweep(folder.parent, folder.name)  # before anything is said of what is there: it may be put back
    check_output(output, overwrite=overwrite)
    staging = staging_path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written: {error.strerror}. Name another folder.") from error
    try:
        yield staging
        settle(staging, folder, replace=folder.exists())
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something else than a curation that may be replaced.

    Raises:
        ConfigError: it does.
    """
    if not output.exists() and not output.is_symlink():
        return
    if not output.is_dir():
        raise ConfigError(f"--output {output} is no folder. Name another one.")
    if not any(output.iterdir()):
        return
    if not (output / SUMMARY).is_file():
        raise ConfigError(f"{output} exists and holds no curation. Name another --output, or remove it first.")
    if not overwrite:
        raise ConfigError(f"{output} holds a curation. Name another --output, or say --overwrite to replace it.")


def write(result: CurationResult, staging: Path) -> dict[str, object]:
    """Write every file of a curation; what `curation.json` holds.

    Raises:
        RuntimeError: the files do not hold each row once.
    """
    found = summary(result)
    _write_rows(result, staging)
    _write_lines(staging / "contradictions.jsonl", list(contradiction_lines(result)))
    _write_lines(staging / "duplicates.jsonl", list(duplicate_lines(result)))
    write_whole(staging / PICTURE_LIST, picture_lines(result.placed))
    write_whole(staging / PAGE, as_page(result))  # shows pictures that then go
    _write_pictures(result, staging)
    write_whole(staging / SUMMARY, json.dumps(found, indent=2, ensure_ascii=False, default=str) + "\n")
    return found


def _write_rows(result: CurationResult, staging: Path) -> None:
    outcomes = result.ledger.outcomes
    kept = {
        split: [kept_line(outcome) for outcome in outcomes if isinstance(outcome, KeptRow) and outcome.split == split]
        for split in SPLITS
    }
    merged = [merged_line(outcome, result) for outcome in outcomes if isinstance(outcome, MergedRow)]
    rejected = [rejected_line(outcome) for outcome in result.ledger.rejected]
    for split, lines in kept.items():
        if lines:  # the readers refuse a file without rows
            _write_lines(staging / f"{split}.jsonl", lines)
    _write_lines(staging / MERGED, merged)
    _write_lines(staging / REJECTS, rejected)
    *_, reasons = result.ledger.count()
    assert reasons.total() == len(rejected)
    check_sum(result.ledger.read, sum(map(len, kept.values())), len(merged), reasons)


def _write_lines(path: Path, lines: Sequence[bytes]) -> None:
    write_whole(path, b"".join(line + b"\n" for line in lines))


def _write_pictures(result: CurationResult, staging: Path) -> None:
    """The kept rows' pictures: copies, or a link to each folder that holds some; what only other rows held goes."""
    shown = {
        k for outcome in result.ledger.outcomes if isinstance(outcome, KeptRow) for k in outcome.candidate.pictures
    }
    names = {folder: staging / PICTURES / name for folder, name in result.folders.items()}
    for k, picture in enumerate(result.pictures):
        file = staging / picture.name
        if picture.file == file:
            if k not in shown:
                file.unlink(missing_ok=True)
        elif k in shown and result.settings.copy_images:
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture.file, file)
    held = staging / HELD
    if held.is_dir() and not any(held.iterdir()):
        held.rmdir()
    if result.settings.copy_images:
        return
    used = {result.pictures[k].file for k in shown}
    for folder, link in names.items():
        if any(file.is_relative_to(folder) for file in used):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder.resolve(), target_is_directory=True)
