"""What becomes of the records that cannot be used: the run is refused, or goes without them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.data.checking.examined import Seen
from vlm_lit.data.conversations.rated_answers import TIE
from vlm_lit.data.dealing import ItemSize
from vlm_lit.data.records.bad_records import BadRecord, firsts
from vlm_lit.data.records.findings import numbered_repeats
from vlm_lit.data.records.preference_dataset import CheckedDataset
from vlm_lit.data.records.sources import name_of
from vlm_lit.errors import ConfigError, RecordError

OnBadRecords = Literal["error", "skip"]


@dataclass(frozen=True, kw_only=True)
class BadRecordSettings:
    """What to do with records that cannot be used.

    Args:
        policy: `error` refuses the run, `skip` leaves them out.
        most: the most that may be left out: below 1 a share of the records, rounded up; from 1 up their number; None
            for any number, of which nothing is said.
    """

    policy: OnBadRecords = "error"
    most: float | None = 0.05

    def __post_init__(self) -> None:
        if self.policy not in ("error", "skip"):
            raise ConfigError(f"data.init_args.bad_records is {self.policy!r}; it must be error or skip.")
        if self.most is not None and (
            not 0 <= self.most < math.inf or (self.most >= 1 and self.most != int(self.most))
        ):
            raise ConfigError(
                f"data.init_args.bad_records_most is {self.most}; write a share below 1, or a whole number of records."
            )

    def allowed(self, n: int) -> int:
        """How many of `n` records may be left out."""
        most = n if self.most is None else self.most
        return math.ceil(n * most) if most < 1 else int(most)


def refuse_skipping(settings: BadRecordSettings, *, streamed: bool) -> None:
    """Refuse to leave records out of a stream.

    Raises:
        ConfigError: that is asked for.
    """
    if streamed and settings.policy == "skip":
        raise ConfigError(
            "data.init_args.bad_records is skip, which needs to know all records ahead; a stream is met one by one. "
            "Set it to error, or streaming to false."
        )


def settle(dataset: CheckedDataset, seen: Seen, settings: BadRecordSettings) -> None:
    """Give a data set what is known of its records, and leave out those that cannot be used if that is asked for.

    Raises:
        RecordError: there are some, or more than may be left out; names each kind of them with a count.
    """
    ties = _ties(dataset, seen)
    n = len(dataset) - len(ties)
    allowed = 0 if settings.policy == "error" else min(settings.allowed(n), n - 1)
    if len(seen.bad) > allowed and settings.most is not None:
        raise _refusal(dataset, seen, settings)
    _leave_out(dataset, seen, ties)
    if seen.bad:
        dataset.skipped = tuple(seen.bad)
        if settings.most is not None:
            rank_zero_info(
                f"{name_of(dataset.reading.source)}: {len(seen.bad):,} of {n:,} records are left out (bad_records: "
                f"skip; bad_records.jsonl lists them). {firsts(seen.bad, name_of(dataset.reading.source))}"
            )
    _know(dataset, seen)


def _ties(dataset: CheckedDataset, seen: Seen) -> list[BadRecord]:
    """The records of which no pair can be made, which is no fault of theirs: they are not among the bad any more.

    Raises:
        RecordError: there is no other.
    """
    ties = [one for one in seen.bad if one.code == TIE]
    if ties and len(ties) == len(dataset):
        raise ties[0].error
    if ties:
        rank_zero_info(
            f"{dataset.name}: no pair can be made of {len(ties):,} of {len(dataset):,} records: their ratings tie, or "
            f"fewer than two of their answers have one. The first is record {ties[0].error.record}: "
            f"{ties[0].error.problem}."
        )
        seen.bad = [one for one in seen.bad if one.code != TIE]
    return ties


def _refusal(dataset: CheckedDataset, seen: Seen, settings: BadRecordSettings) -> RecordError:
    n, bad, source = len(dataset), seen.bad, name_of(dataset.reading.source)
    if settings.policy == "error" and len(bad) == 1:
        return bad[0].error
    remedy = "python -m vlm_lit check --config ... lists all of them"
    if settings.policy == "error":
        remedy += "; data.init_args.bad_records: skip leaves a few out."
    else:
        remedy += (
            f"; bad_records: skip leaves at most {settings.allowed(n):,} of them out here (data.init_args."
            f"bad_records_most: {settings.most})."
        )
    return RecordError(
        f"{len(bad):,} of {n:,} records cannot be used. {firsts(bad, source).rstrip('.')}",
        remedy=remedy,
        file=source,
        code=bad[0].code,
    )


def _leave_out(dataset: CheckedDataset, seen: Seen, ties: Sequence[BadRecord]) -> None:
    """Take the bad records and the ties out of a data set, and out of what is known of it."""
    out = {one.index for one in (*seen.bad, *ties)}
    if not out:
        return
    kept = [index for index in range(len(dataset)) if index not in out]
    dataset.keep(kept)
    seen.ids, seen.answers = [seen.ids[index] for index in kept], [seen.answers[index] for index in kept]
    seen.longest, seen.words = [seen.longest[index] for index in kept], [seen.words[index] for index in kept]
    seen.held = [seen.held[index] for index in kept]
    seen.keys, seen.files = [seen.keys[index] for index in kept], [seen.files[index] for index in kept]


def _know(dataset: CheckedDataset, seen: Seen) -> None:
    """Hand over what was learned of each record that is kept."""
    dataset.image_keys, dataset.answers = seen.keys, seen.answers
    dataset.sizes = [ItemSize(*size) for size in zip(seen.words, seen.held, strict=True)]
    dataset.most_images = max(map(len, seen.files), default=0)
    dataset.findings.records = len(seen.ids)
    dataset.findings.notes = seen.notes
    if dataset.reading.requires_answer:  # training scores nobody by the id
        dataset.renamed = numbered_repeats(seen.ids)
        dataset.findings.repeated = len(dataset.renamed)
    dataset.ids = [dataset.renamed.get(index, name) for index, name in enumerate(seen.ids)]
