"""Files of answers and references, read into one form: our own records and lmms-eval's samples."""

from __future__ import annotations

from pathlib import Path

from vlm_lit.commands.filed_rows import FiledAnswer, FiledRow, again, rows, shown, with_unique_ids
from vlm_lit.metrics.rules import Answer


def read_records(path: Path) -> list[FiledAnswer]:
    """Reads one record an answer, from `.jsonl` or a list in `.json`; a run's `predictions.jsonl` is such a file.

    A record has `id`, `prediction` and `references`, and may have `image_id` (or `image`), `choices` and `groups`.
    lmms-eval's sample files are told by their `doc_id`; each of their records has its `target` as only reference.

    Raises:
        RecordError: a record is broken or repeats an id; names file, record and remedy.
    """
    found = rows(path)
    first = next(found)
    of_lmms_eval = "doc_id" in first and "id" not in first
    read, id_key = (_sample, "doc_id") if of_lmms_eval else (_record, "id")
    numbered = enumerate(again(first, found))
    return list(with_unique_ids(read(FiledRow(path, index, row, id_key=id_key)) for index, row in numbered))


def _record(row: FiledRow) -> FiledAnswer:
    answer = Answer(
        row.text("prediction"), row.texts("references"), row.id, row.texts("choices", optional=True), row.groups()
    )
    return row.filed(answer)


def _sample(row: FiledRow) -> FiledAnswer:
    """A line of lmms-eval's `..._samples_<task>.jsonl`."""
    key = "filtered_resps" if "filtered_resps" in row.fields else "resps"
    reply = row.fields.get(key)
    while isinstance(reply, list) and len(reply) == 1:  # one request, one reply: [["red"]]
        (reply,) = reply
    if not isinstance(reply, str):
        row.refuse(f"{key} is {shown(row.fields.get(key))}", "It must hold one reply.")
    target = row.fields.get("target")
    references = row.texts("target") if isinstance(target, list) else (row.text("target"),)
    return row.filed(Answer(reply, references, row.id, row.texts("choices", optional=True)))
