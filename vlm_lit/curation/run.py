"""A curation from its settings: rows read, pictures looked at, every row decided on, what was found reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from vlm_lit.curation.candidates import Candidate, CandidateMaker, PictureFile, PreparedSource
from vlm_lit.curation.columns import Columns
from vlm_lit.curation.deciding import contradictions, decided, with_ids, without_contradictions
from vlm_lit.curation.findings import CurationFindings, across_written, answer_priors, picture_findings
from vlm_lit.curation.image_finder import ImageFinder
from vlm_lit.curation.likeness import Likeness
from vlm_lit.curation.looks import PictureLook, check_library, looks
from vlm_lit.curation.outcomes import KeptRow, RejectedRow, RowLedger
from vlm_lit.curation.placing import SPLITS, Placing, across_splits
from vlm_lit.curation.previous import EarlierPicture
from vlm_lit.curation.reading import source_rows
from vlm_lit.curation.settings import CurationSettings
from vlm_lit.curation.source_rows import SourceRow
from vlm_lit.errors import ConfigError, RecordError, listed

_CHAINED: Final = 0.2
"""Share of the pictures in one set of near duplicates above which the splits cannot have the sizes asked for."""

_MANY: Final = 20


class ProgressBar(Protocol):
    """Shows how far a stage is."""

    def update(self, n: float | None = 1) -> object:
        """One more is done."""


ShownBar = Callable[[str, "int | None"], AbstractContextManager[ProgressBar]]
"""Makes the bar of a stage: what it does, and how many there are to do, None where that is not known."""


@dataclass(frozen=True, kw_only=True)
class CurationResult:
    """What a curation has come to, before it is written."""

    settings: CurationSettings
    ledger: RowLedger
    pictures: Sequence[PictureFile]
    seen: Sequence[PictureLook]
    folders: dict[Path, str]
    findings: CurationFindings
    placed: Sequence[EarlierPicture]


def curate(
    settings: CurationSettings, staging: Path, output: Path, earlier: Sequence[EarlierPicture], bar: ShownBar
) -> CurationResult:
    """Curate.

    Args:
        settings: what is read and by which rules.
        staging: an empty folder that becomes `output`; pictures that rows hold are put there.
        output: the folder as it will be called, which no picture is looked for in.
        earlier: pictures of an earlier curation that keep their split.
        bar: shows each stage.

    Raises:
        VlmLitError: a source, a folder or a setting that cannot be used.
    """
    _check(settings)
    folders = [Path(folder).expanduser() for folder in settings.images]
    finder = ImageFinder(folders, settings.prefixes or {}, output.resolve())
    by_source = settings.splits_from == "sources"
    maker = CandidateMaker(finder, staging, settings.ignore_keys or (), by_source=by_source)
    findings = CurationFindings(changes=maker.changes)
    with bar("reading rows", None) as shown:
        rows, read = _rows(settings, maker, findings, shown)
    needed = sorted({k for row in rows if isinstance(row, Candidate) for k in row.pictures})
    with bar("looking at pictures", len(needed)) as shown:
        files = [maker.pictures[k].file for k in needed]
        found = looks(files, hashed=settings.near_distance is not None, workers=settings.workers, seen=shown.update)
    nothing = PictureLook(problem=("no row that could be used shows it", "", ""))
    seen = [nothing] * len(maker.pictures)
    for k, look in zip(needed, found, strict=True):
        seen[k] = look
    likeness = _likeness(seen, earlier, settings.near_distance)
    placing = Placing(likeness, val=settings.val, test=settings.test, seed=settings.seed)
    placing.hold({one.digest: one.split for one in earlier})
    outcomes = decided(rows, seen, placing, by_source=by_source)
    findings.contradictions = contradictions(outcomes, seen)
    if settings.contradictions == "reject":
        outcomes = without_contradictions(outcomes, findings.contradictions)
    outcomes, findings.renamed = with_ids(outcomes, seen)
    findings.pictures = picture_findings(seen, likeness)
    findings.priors = answer_priors(outcomes)
    findings.across_splits = across_written(outcomes, seen, likeness)
    findings.across_sources = _across_sources(rows, seen, likeness)
    _warn(settings, findings, seen, outcomes)
    _warn_of_said_splits(findings, outcomes, maker.splits, by_source)
    if findings.across_splits != (0, 0) and not earlier:
        raise RuntimeError(
            f"{sum(findings.across_splits):,} pictures stand on two sides. This is a mistake of the program; please "
            "report it."
        )
    return CurationResult(
        settings=settings,
        ledger=RowLedger(outcomes=outcomes, read=read),
        pictures=maker.pictures,
        seen=seen,
        folders=maker.folders,
        findings=findings,
        placed=_placed(placing, seen, earlier),
    )


def _check(settings: CurationSettings) -> None:
    if not settings.sources:
        raise ConfigError("There is nothing to curate: name a SOURCE, a file or a folder of rows.")
    if not 0 <= settings.val + settings.test < 1 or min(settings.val, settings.test) < 0:
        shares = f"val is {settings.val:g} and test is {settings.test:g}"
        raise ConfigError(f"{shares}: shares of the pictures, from 0 up, that leave some for train.")
    if settings.near_distance is not None and not 0 <= settings.near_distance <= _MANY:
        raise ConfigError(f"near_distance is {settings.near_distance}: bits of 64, from 0 to {_MANY}, or none.")
    check_library(settings.near_distance)


def _rows(
    settings: CurationSettings, maker: CandidateMaker, findings: CurationFindings, shown: ProgressBar
) -> tuple[list[Candidate | RejectedRow], int]:
    """Every source's rows, each as a candidate or rejected; and how many were read."""
    columns = Columns(settings.columns or {}, "columns")
    rows: list[Candidate | RejectedRow] = []
    read = 0
    for source in settings.sources:
        folder = Path(settings.images[0] if settings.images else source.path).expanduser()
        prepared = PreparedSource(source, columns, folder)
        for row in source_rows(source):
            read += 1
            if row.ends and row.problem is not None:
                findings.warnings.append(_unread(row, row.problem))
            rows.append(_candidate(row, prepared, maker))
            shown.update(1)
        prepared.own.check()
    columns.check()
    return rows, read


def _unread(row: SourceRow, problem: RecordError) -> str:
    where = f" from line {row.line} on" if row.line is not None else ""
    return f"{row.source}: nothing of it was read{where}: {problem.problem}."


def _candidate(row: SourceRow, source: PreparedSource, maker: CandidateMaker) -> Candidate | RejectedRow:
    pictures: list[int] = []
    try:
        return maker.candidate(row, source, pictures)
    except RecordError as error:
        return RejectedRow(
            row=row, code=error.code, problem=error.problem, remedy=error.remedy, pictures=tuple(pictures)
        )


def _likeness(seen: Sequence[PictureLook], earlier: Sequence[EarlierPicture], distance: int | None) -> Likeness:
    hashes = {one.digest: one.hashes for one in earlier}
    return Likeness(hashes | {look.digest: look.hashes for look in seen if look.digest}, distance)


def _across_sources(
    rows: Sequence[Candidate | RejectedRow], seen: Sequence[PictureLook], likeness: Likeness
) -> tuple[int, int]:
    """Pictures that the sources themselves have on several splits, and those like one on another."""
    said: dict[str, set[str]] = {}
    for row in rows:
        if isinstance(row, Candidate) and row.row.split is not None:
            for picture in row.pictures:
                if digest := seen[picture].digest:
                    said.setdefault(digest, set()).add(row.row.split)
    return across_splits(likeness, said)


def _placed(placing: Placing, seen: Sequence[PictureLook], earlier: Sequence[EarlierPicture]) -> list[EarlierPicture]:
    hashes = {one.digest: one.hashes for one in earlier} | {look.digest: look.hashes for look in seen if look.digest}
    return [
        EarlierPicture(digest=digest, hashes=hashes[digest], split=split) for digest, split in placing.split_of.items()
    ]


def _warn(
    settings: CurationSettings, findings: CurationFindings, seen: Sequence[PictureLook], outcomes: Sequence[object]
) -> None:
    good = sum(bool(look.digest) for look in seen)
    largest = max(map(len, findings.pictures.near_duplicates), default=0)
    if good >= _MANY and largest > _CHAINED * good:
        findings.warnings.append(
            f"{largest:,} of {good:,} pictures are near duplicates of each other, one by one, and stay on one split: "
            "the splits cannot have the sizes asked for. Lower --near_distance, or say none."
        )
    written = Counter(outcome.split for outcome in outcomes if isinstance(outcome, KeptRow))
    shares = {"train": 1.0, "val": settings.val, "test": settings.test}
    for split in SPLITS:
        if not written[split] and shares[split] > 0:
            findings.warnings.append(f"No row came to {split}: there is no {split}.jsonl.")
    exact, near = findings.across_sources
    if exact + near and settings.splits_from == "pictures":
        findings.warnings.append(
            f"The sources have {exact:,} pictures on several of their own splits, and {near:,} that are like one on "
            "another: scores on them would have been too good. Here they stand on one side."
        )


def _warn_of_said_splits(
    findings: CurationFindings, outcomes: Sequence[object], said: Mapping[str, int], by_source: bool
) -> None:
    silent = sum(isinstance(outcome, KeptRow) and outcome.candidate.row.split is None for outcome in outcomes)
    if by_source and silent:
        findings.warnings.append(
            f"{silent:,} rows came to a split by their pictures: neither their file nor their field split says one."
        )
    if said and not by_source:
        counts = listed([f"{word} {count:,}" for word, count in said.items()])
        findings.warnings.append(
            f"Rows say splits in their field split ({counts}), and were split anew by their pictures. Say "
            "--splits_from sources to keep what they say."
        )
