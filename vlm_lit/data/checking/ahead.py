"""The check ahead: all records of a split are read, rendered and tokenized, and their images looked at, before step 0.

What was found is kept on disk under the contents of the files and all else that it follows from, so that the next start
reads it. Whether the images are still there is asked each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from vlm_lit.data.checking.examined import Examiner, Seen, Uses
from vlm_lit.data.checking.in_processes import FEW, mapped
from vlm_lit.data.checking.pictures import looked_at_pictures
from vlm_lit.data.checking.source_identity import encoder_identity, source_identity
from vlm_lit.data.conversations.conversations import check_unique_ids
from vlm_lit.data.records.bad_records import BadRecord
from vlm_lit.data.records.preference_dataset import CheckedDataset
from vlm_lit.data.rows.conversation_encoder import TextLengths
from vlm_lit.data.rows.over_length import TOO_LONG
from vlm_lit.errors import RecordError
from vlm_lit.files.user_cache import Cached
from vlm_lit.schema import Note


def checked_ahead(
    dataset: CheckedDataset, encoder: TextLengths, uses: Uses, limit: Callable[[int], int | None]
) -> Seen:
    """What is known of all records of a data set, those that cannot be used among them, in order.

    Args:
        dataset: the data set.
        encoder: tells how long the text of its conversations is.
        uses: what is made of them.
        limit: most tokens of a conversation, from the most images that one of them has; None for no limit.

    Raises:
        VlmLitError: something that is no single record's fault.
    """
    seen = _seen(dataset, encoder, uses)
    bad = {one.index: one for one in seen.bad}
    for one in _too_long(dataset, seen, limit(max(map(len, seen.files), default=0))):
        bad.setdefault(one.index, one)
    if uses.images is not None:
        for one in _with_bad_images(dataset, seen, uses):
            bad.setdefault(one.index, one)
    if not dataset.reading.requires_answer:  # training scores nobody by the id
        for one in _repeated(dataset, seen, bad):
            bad[one.index] = one
    seen.bad = [bad[index] for index in sorted(bad)]
    return seen


def _seen(dataset: CheckedDataset, encoder: TextLengths, uses: Uses) -> Seen:
    examiner = Examiner(dataset, encoder, uses)
    if len(dataset) < FEW:
        return _joined(mapped(examiner, len(dataset), what="records"))
    identity = {"uses": asdict(uses), **source_identity(dataset), **encoder_identity(encoder)}
    cached = Cached("records", identity)
    with cached.alone() if cached.read() is None else nullcontext():
        kept = _unpacked(cached.read(), len(dataset))
        if kept is None:
            kept = _joined(mapped(examiner, len(dataset), what="records"))
            cached.write(_packed(kept))
    return kept


def _joined(parts: Iterable[Seen]) -> Seen:
    whole, names = Seen(), dict[Any, Any]()
    for part in parts:
        whole.ids += part.ids
        whole.answers += part.answers
        whole.keys += [names.setdefault(key, key) for key in part.keys]  # many records show one image
        whole.longest += part.longest
        whole.words += part.words
        whole.held += [names.setdefault(held, held) for held in part.held]
        whole.files += [names.setdefault(files, files) for files in part.files]
        whole.notes.update(part.notes)
        whole.bad += part.bad
    return whole


def _packed(seen: Seen) -> dict[str, object]:
    """As JSON holds it; images, which records share, by their number."""
    shown = dict.fromkeys(zip(seen.keys, seen.files, strict=True))
    number = {images: k for k, images in enumerate(shown)}
    return {
        "ids": seen.ids,
        "answers": seen.answers,
        "longest": seen.longest,
        "words": seen.words,
        "held": seen.held,
        "images": list(shown),
        "shown": [number[images] for images in zip(seen.keys, seen.files, strict=True)],
        "notes": [[note.kind, note.about, count] for note, count in seen.notes.items()],
        "bad": [asdict(one) for one in seen.bad],
    }


def _unpacked(kept: Any, n: int) -> Seen | None:  # noqa: ANN401 - whatever the file holds
    """What was packed; None where that is nothing, or of other records."""
    if not isinstance(kept, dict) or len(kept["ids"]) != n:
        return None
    images = [(key, tuple(files)) for key, files in kept["images"]]
    shown = [images[k] for k in kept["shown"]]
    return Seen(
        ids=kept["ids"],
        answers=kept["answers"],
        longest=kept["longest"],
        words=kept["words"],
        held=[tuple(None if size is None else (size[0], size[1]) for size in sizes) for sizes in kept["held"]],
        keys=[key for key, _ in shown],
        files=[files for _, files in shown],
        notes=Counter({Note(kind=kind, about=about): count for kind, about, count in kept["notes"]}),
        bad=[BadRecord(**one) for one in kept["bad"]],
    )


def _too_long(dataset: CheckedDataset, seen: Seen, limit: int | None) -> list[BadRecord]:
    """The records whose words alone are longer than is allowed."""
    found = []
    for index, length in enumerate(seen.longest) if limit is not None else ():
        if limit is not None and length > limit:
            record, pictured = dataset.records[index], " and its images" if seen.files[index] else ""
            error = RecordError(
                f"the conversation has {length:,} tokens{pictured}, and max_length is {limit:,}",
                remedy="Raise max_length, or set over_length to another policy (drop, trim_text or shrink_image).",
                file=record.file,
                record=record.name,
                code=TOO_LONG,
            )
            found.append(BadRecord.of(index, error))
    return found


def _with_bad_images(dataset: CheckedDataset, seen: Seen, uses: Uses) -> list[BadRecord]:
    """The records whose image files cannot be used."""
    assert uses.images is not None
    paths = list(dict.fromkeys(path for files in dict.fromkeys(seen.files) for path in files if path is not None))
    source = dataset.reading.source
    problems, sizes = looked_at_pictures(paths, uses.images, {"source": source.path, "image_root": source.image_root})
    seen.held = [
        tuple(size if path is None else sizes.get(path) for path, size in zip(files, held, strict=True))
        for files, held in zip(seen.files, seen.held, strict=True)
    ]
    found = []
    for index, files in enumerate(seen.files) if problems else ():
        position = next((k for k, path in enumerate(files) if path in problems), None)
        if position is not None:
            found.append(_bad_image(dataset, index, files, position, problems))
    return found


def _bad_image(
    dataset: CheckedDataset,
    index: int,
    files: Sequence[str | None],
    position: int,
    problems: Mapping[str, tuple[str, str, str]],
) -> BadRecord:
    path = files[position] or ""
    problem, remedy, code = problems[path]
    record = dataset.records[index]
    return BadRecord(
        index=index,
        code=code,
        problem=f"image {position + 1} of {len(files)}, {path}: {problem}",
        remedy=remedy,
        file=str(record.file),
        record=record.name,
    )


def _repeated(dataset: CheckedDataset, seen: Seen, bad: Mapping[int, BadRecord]) -> list[BadRecord]:
    """The records whose id an earlier one has: scores go by it."""
    first, found = dict[str, int](), []
    for index, name in enumerate(seen.ids):
        if index in bad or first.setdefault(name, index) == index:
            continue
        try:
            check_unique_ids([dataset[first[name]], dataset[index]])
        except RecordError as error:
            found.append(BadRecord.of(index, error))
    return found
