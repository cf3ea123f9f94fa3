"""Settings of a curation: its sources, and what is done with their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Contradictions: TypeAlias = Literal["keep", "reject"]
SplitsFrom: TypeAlias = Literal["pictures", "sources"]


@dataclass(frozen=True, kw_only=True)
class CuratedSource:
    """A file, folder, pattern or hub id that rows are read from.

    Args:
        path: what is read: every format of `data.train.path`, Label Studio JSON and JSON_MIN, CVAT XML.
        columns: our field names to the source's; several of theirs with | between: {question: query|frage}.
        annotations: file with the answers to its questions, as VQA publishes them, joined by question_id.
        image_name: how the picture of a row without one is called, for example COCO_train2014_{image_id:012d}.jpg.
        records: key of a JSON file's one object that holds the rows; null to find it.
        encoding: of its text files, where that is not UTF-8 and no byte order mark says it, for example cp1252.
        split: split of a hub data set or of a saved one.
    """

    path: str
    columns: dict[str, str] | None = None
    annotations: str | None = None
    image_name: str | None = None
    records: str | None = None
    encoding: str | None = None
    split: str = "train"


@dataclass(frozen=True, kw_only=True)
class CurationSettings:
    """What a curation reads, and by which rules it places the rows.

    Args:
        sources: what is read, in this order.
        images: folders that pictures are looked for in; none for each source's own folder.
        output: folder to write.
        columns: our field names to those of any source, as in `CuratedSource`; a row without them keeps its own.
        prefixes: beginnings of other machines' paths, and what stands for each here: {D:/photos: "", /mnt/a: a}.
        ignore_keys: keys that are left out of rows and of their turns.
        val: share of the picture groups that becomes val.jsonl.
        test: share of the picture groups that becomes test.jsonl.
        seed: what the splits follow from.
        splits_from: `pictures` splits anew, by group of pictures; `sources` keeps what a source's file, folder or field
            `split` says (train, val2014, test-dev2015, ...), and rejects what would stand on two sides and a field of
            another word.
        previous: folder of an earlier curation whose pictures keep their split.
        near_distance: bits of 64 in which the perceptual hashes of near duplicates may differ, in each colour channel;
            null looks for exact duplicates only.
        contradictions: `keep` rows that answer one question about one picture differently, or `reject` all of them.
            Answers are compared as the VQA evaluation does and by their signs: `Yes.` is `yes`, and `-5` is not `5`.
        copy_images: copy the pictures into the folder, where otherwise a link leads to each folder of them.
        overwrite: replace a folder that an earlier curation wrote.
        workers: processes that read pictures; null for as many as there are cores.
    """

    sources: tuple[CuratedSource, ...] = ()
    images: tuple[str, ...] = ()
    output: str = ""
    columns: dict[str, str] | None = None
    prefixes: dict[str, str] | None = None
    ignore_keys: list[str] | None = None
    val: float = 0.1
    test: float = 0.1
    seed: int = 0
    splits_from: SplitsFrom = "pictures"
    previous: str | None = None
    near_distance: int | None = 4
    contradictions: Contradictions = "keep"
    copy_images: bool = False
    overwrite: bool = False
    workers: int | None = None


def rules_of(settings: CurationSettings) -> dict[str, object]:
    """What the splits follow from."""
    return {
        "seed": settings.seed,
        "val": settings.val,
        "test": settings.test,
        "splits_from": settings.splits_from,
        "near_distance": settings.near_distance,
    }
