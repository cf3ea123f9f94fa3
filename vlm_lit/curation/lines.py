"""Lines of the files that a curation writes: rows of each split, merged rows, rejected rows, findings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from vlm_lit.curation.outcomes import KeptRow, MergedRow, RejectedRow
from vlm_lit.curation.run import CurationResult
from vlm_lit.curation.source_rows import SourceRow

_LONGEST = 10_000
"""Letters of a rejected row that are written out; a longer one holds a picture."""


def kept_line(kept: KeptRow) -> bytes:
    """The row as it was, its pictures under their new names, under its own id."""
    row = kept.candidate
    if row.id == kept.id:
        return row.line
    fields = {"id": kept.id} | {k: value for k, value in json.loads(row.line).items() if k != "id"}
    return _line(fields)


def rejected_line(rejected: RejectedRow) -> bytes:
    """Where the row stands, why it is rejected, and what it says."""
    row = rejected.row
    reason = {"reason": rejected.code, "problem": rejected.problem, "remedy": rejected.remedy}
    written = _line(row.fields) if row.fields is not None else b""
    held = {"row": row.fields} if written and len(written) <= _LONGEST else {}
    return _line({**_place(row), **reason, **held})


def merged_line(merged: MergedRow, result: CurationResult) -> bytes:
    """Where the row stands, and the kept one that says the same."""
    kept = result.ledger.outcomes[merged.into]
    assert isinstance(kept, KeptRow)
    return _line({**_place(merged.candidate.row), "into": kept.id, "split": kept.split})


def contradiction_lines(result: CurationResult) -> Iterator[bytes]:
    """Each question that is answered differently about one picture."""
    for one in result.findings.contradictions:
        rows = [result.ledger.outcomes[place] for place in one.rows]
        held = [row.row if isinstance(row, RejectedRow) else row.candidate.row for row in rows]
        pictures = rows[0].pictures if isinstance(rows[0], RejectedRow) else rows[0].candidate.pictures
        names = [result.pictures[k].name for k in pictures]
        yield _line(
            {"pictures": names, "question": one.question, "answers": one.answers, "rows": [_place(row) for row in held]}
        )


def duplicate_lines(result: CurationResult) -> Iterator[bytes]:
    """Each set of pictures that are one file's content, and each that look alike."""
    found = result.findings.pictures
    for issue, sets in (("exact_duplicates", found.exact_duplicates), ("near_duplicates", found.near_duplicates)):
        for places in sets:
            yield _line({"issue": issue, "pictures": [result.pictures[k].name for k in places]})


def _place(row: SourceRow) -> dict[str, object]:
    name = {"id": row.fields["id"]} if row.fields is not None and row.fields.get("id") is not None else {}
    return {"source": row.source, "line": row.line, "record": row.index, **name}


def _line(fields: Mapping[str, object]) -> bytes:
    # What is no JSON is shown as Python shows it; half a surrogate pair as its escape, which JSON has for it.
    text = json.dumps(fields, ensure_ascii=False, default=str)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(fields, default=str).encode()
