"""Manifest of the records that a run left out, one JSON line each, and what its results and checkpoints say of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from vlm_lit.data.records.bad_records import BadRecord
from vlm_lit.data.records.record_dataset import RecordDataset
from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import write_whole

MANIFEST: Final = "bad_records.jsonl"


def write_skipped(run: Path, datasets: Mapping[str, object]) -> None:
    """Write which records of each split were left out; what earlier commands wrote of other splits stays.

    Args:
        run: the run directory.
        datasets: the splits that this command reads.

    Raises:
        ConfigError: an earlier line is none of ours.
    """
    manifest = run / MANIFEST
    earlier = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
    lines = [line for place, line in enumerate(earlier, 1) if _split(manifest, place, line) not in datasets]
    lines += [_line(split, one) for split, dataset in datasets.items() for one in skipped(dataset)]
    if lines:
        write_whole(manifest, "".join(f"{line}\n" for line in lines))
    else:
        manifest.unlink(missing_ok=True)


def skipped(dataset: object) -> list[BadRecord]:
    """The records of a split that were left out."""
    return list(dataset.skipped) if isinstance(dataset, RecordDataset) else []


def skipped_identity(dataset: object) -> str | None:
    """What names the set of records that were left out, for a resumed run to compare; None where there are none."""
    left_out = skipped(dataset)
    if not left_out:
        return None
    digest = hashlib.sha256(",".join(str(one.index) for one in left_out).encode()).hexdigest()
    return f"{len(left_out)} record{'s' * (len(left_out) > 1)}, sha256 {digest[:16]}"


def _split(manifest: Path, place: int, line: str) -> str:
    """The split that an earlier line is about."""
    try:
        return str(json.loads(line)["split"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(f"{manifest}, line {place} names no split. Remove the file; it is written again.") from error


def _line(split: str, one: BadRecord) -> str:
    return json.dumps({"split": split, **asdict(one)}, ensure_ascii=False)
