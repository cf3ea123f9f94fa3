"""`curation.json`: every count of a curation, and the settings that led to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from vlm_lit.curation.outcomes import KeptRow, MergedRow, RejectedRow
from vlm_lit.curation.placing import SPLITS
from vlm_lit.curation.run import CurationResult


def summary(result: CurationResult) -> dict[str, object]:
    """The counts and settings.

    Raises:
        RuntimeError: a row was lost.
    """
    kept, merged, rejected = result.ledger.count()
    findings, outcomes = result.findings, result.ledger.outcomes
    written = Counter(outcome.split for outcome in outcomes if isinstance(outcome, KeptRow))
    exact, near = findings.across_sources
    pictures = findings.pictures
    return {
        "read": result.ledger.read,
        "kept": kept,
        "merged": merged,
        "rejected": dict(sorted(rejected.items())),
        "splits": {split: written[split] for split in SPLITS},
        "duplicates_across_splits": sum(findings.across_splits),
        "duplicates_across_source_splits": {"exact_duplicates": exact, "near_duplicates": near},
        "duplicates": {
            "exact_duplicates": sum(map(len, pictures.exact_duplicates)),
            "near_duplicates": sum(map(len, pictures.near_duplicates)),
        },
        "contradictions": len(findings.contradictions),
        "renamed_ids": findings.renamed,
        "repaired_paths": dict(sorted(findings.changes.items())),
        "pictures": {
            "seen": sum(bool(look.digest) for look in result.seen),
            "distinct": len({look.digest for look in result.seen if look.digest}),
            "odd_aspect_ratio": len(pictures.odd_aspect_ratio),
            "odd_size": len(pictures.odd_size),
        },
        "answers": {
            split: {
                "rows": prior.rows,
                "distinct": prior.distinct,
                "most_common": dict(prior.most_common),
                "majority": prior.majority,
                "majority_by_question": prior.by_question,
            }
            for split, prior in findings.priors.items()
        },
        "sources": by_source(result),
        "warnings": findings.warnings,
        "settings": asdict(result.settings),
    }


def by_source(result: CurationResult) -> dict[str, dict[str, int]]:
    """What became of each source file's rows."""
    counts: dict[str, dict[str, int]] = {}
    for outcome in result.ledger.outcomes:
        row = outcome.row if isinstance(outcome, RejectedRow) else outcome.candidate.row
        kind = {KeptRow: "kept", MergedRow: "merged", RejectedRow: "rejected"}[type(outcome)]
        of = counts.setdefault(row.source, {"read": 0, "kept": 0, "merged": 0, "rejected": 0})
        of["read"] += 1
        of[kind] += 1
    return counts
