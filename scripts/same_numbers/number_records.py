"""The record of a commit's numbers, and two of them laid side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from commit_tree import SameNumbersError
from run_numbers import KINDS, Lines

FAILED: Final = "failed"
_SHOWN: Final = 160  # characters of a line, around the first that differs
_LEAD: Final = 60  # of them, those before it


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one commit computed.

    Args:
        commit: its hash; `+` behind it says that there were changes besides.
        machine: processor and libraries.
        inputs: digests of the tiny checkpoints and data.
        jobs: each job's lines by kind, or under `failed` what was said when it failed.
    """

    commit: str
    machine: Mapping[str, str]
    inputs: Mapping[str, str]
    jobs: Mapping[str, Mapping[str, Lines]]

    def to_json(self) -> str:
        """The record as a file holds it."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a comparison of two lists of lines found; `line`, counted from 1, is the first that differs."""

    verdict: str
    lines: int
    line: int | None = None
    before: str | None = None
    after: str | None = None

    @property
    def same(self) -> bool:
        """Whether nothing differs and nothing failed."""
        return self.verdict == "same"


Table = dict[str, dict[str, Found]]


def read_record(path: Path) -> Record:
    """The record in a file.

    Raises:
        SameNumbersError: there is none.
    """
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise SameNumbersError(f"{path} is no file written by --record: {error}") from error


def check_inputs(record: Record, inputs: Mapping[str, str], names: Sequence[str]) -> None:
    """Refuse to compare runs on other tiny checkpoints or data.

    Raises:
        SameNumbersError: those of the record are others.
    """
    other = [name for name in inputs if name in record.inputs and record.inputs[name] != inputs[name]]
    if other:
        raise SameNumbersError(
            f"The tiny inputs {', '.join(other)} of the recorded runs are not those that the test helpers make now, so "
            f"nothing would follow for {', '.join(names)}. Name the commit {record.commit} in place of its record."
        )


def failures(record: Record) -> str:
    """The jobs that failed, with what they said; empty where none did."""
    return "".join(f"{name} failed: {' '.join(job[FAILED])}\n" for name, job in record.jobs.items() if FAILED in job)


def compare(before: Record, after: Record, names: Sequence[str]) -> Table:
    """Each job by each kind."""
    return {name: _compare_job(before.jobs[name], after.jobs[name]) for name in names}


def _compare_job(before: Mapping[str, Lines], after: Mapping[str, Lines]) -> dict[str, Found]:
    if FAILED in before or FAILED in after:
        old, new = ("\n".join(job.get(FAILED, ["ran"])) for job in (before, after))
        return {kind: Found(verdict=FAILED, lines=0, before=old, after=new) for kind in KINDS}
    return {kind: first_difference(before[kind], after[kind]) for kind in KINDS}


def first_difference(before: Lines, after: Lines) -> Found:
    """The first line in which two lists differ; one that ends early differs where it ends."""
    for at in range(max(len(before), len(after))):
        old, new = (lines[at] if at < len(lines) else None for lines in (before, after))
        if old != new:
            return Found(verdict="differs", lines=len(before), line=at + 1, before=old, after=new)
    return Found(verdict="same", lines=len(before))


def table_json(before: Record, after: Record, compared: Table) -> dict[str, object]:
    """The table for a program to read."""
    return {
        "before": before.commit,
        "after": after.commit,
        "machine": dict(after.machine),
        "same": all(found.same for row in compared.values() for found in row.values()),
        "jobs": {name: {kind: asdict(found) for kind, found in row.items()} for name, row in compared.items()},
    }


def table_text(before: Record, after: Record, compared: Table) -> str:
    """The table for a reader: a row a job, then for whatever differs its first differing line."""
    rows: list[tuple[str, ...]] = [("job", *KINDS)]
    for name, row in compared.items():
        rows.append((name, *(f"{f.verdict} ({f.lines})" if f.same else f.verdict for f in row.values())))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    said = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    said += ["", f"before {before.commit}", f"after  {after.commit}", "In brackets: lines compared."]
    other = [f"{k} {before.machine.get(k)}, now {after.machine.get(k)}" for k in after.machine]
    other = [note for k, note in zip(after.machine, other, strict=True) if before.machine.get(k) != after.machine[k]]
    if other:
        said.append(f"Recorded elsewhere, which alone can change numbers: {'; '.join(other)}")
    for name, row in compared.items():
        said += [line for kind, found in row.items() for line in _explained(name, kind, found)]
    return "\n".join(said)


def _explained(name: str, kind: str, found: Found) -> list[str]:
    if found.same or (found.verdict == FAILED and kind != KINDS[0]):
        return []  # a failure is said once a job
    if found.verdict == FAILED:
        return ["", f"{name} failed", f"  before: {found.before}", f"  after:  {found.after}"]
    return ["", f"{name}, {kind}, line {found.line}", *_excerpts(found.before, found.after)]


def _excerpts(before: str | None, after: str | None) -> list[str]:
    """Two lines, of long ones the part around the first character that differs."""
    pairs = zip(before or "", after or "", strict=False)
    at = next((i for i, (old, new) in enumerate(pairs) if old != new), min(len(before or ""), len(after or "")))
    start = max(0, at - _LEAD) if max(len(before or ""), len(after or "")) > _SHOWN else 0

    def shown(line: str | None) -> str:
        if line is None:
            return "(no such line)"
        return ("..." if start else "") + line[start : start + _SHOWN] + ("..." if len(line) > start + _SHOWN else "")

    return [f"  before: {shown(before)}", f"  after:  {shown(after)}"]
