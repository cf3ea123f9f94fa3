"""Records of pairs as they are written: messages with image parts, which `PreferenceDataModule` and TRL read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image

from vlm_lit.files.whole import write_whole
from vlm_lit.models.adapter_state import file_sha256
from vlm_lit.schema import Conversation, ImageRef, ImageSlot, Turn
from vlm_lit.training.pairing.choosing import AnswerPair, JudgedAnswer

FORMS: Final = (".jsonl", ".json")
"""What a file of pairs may end with: one record a line, or a list of them."""


@dataclass(frozen=True, kw_only=True)
class JudgedPair:
    """A pair of answers to a conversation's question; `number`, from 0, where the question has several."""

    asked: Conversation
    pair: AnswerPair
    number: int = 0


def question_turns(asked: Conversation) -> tuple[Turn, ...]:
    """What stands before the answer that is asked for."""
    turns = asked.turns
    return turns[:-1] if turns[-1].role == "assistant" else turns


def prompt_key(asked: Conversation) -> str:
    """What names a question by its words and by its pictures' contents."""
    said = [
        [turn.role, [None if isinstance(part, ImageSlot) else part for part in turn.content]]
        for turn in question_turns(asked)
    ]
    return hashlib.sha256(json.dumps([said, [_picture_key(ref) for ref in asked.images]]).encode()).hexdigest()[:16]


def _picture_key(ref: ImageRef) -> str:
    if ref.path is not None:
        about = ref.path.stat()
        return _of_file(ref.path, about.st_size, about.st_mtime_ns)
    return ref.digest or hashlib.sha256(_encoded(ref)).hexdigest()


@lru_cache(maxsize=65536)
def _of_file(path: Path, _size: int, _changed: int) -> str:
    return file_sha256(path)


def _encoded(ref: ImageRef) -> bytes:
    """A picture that a record holds, as the bytes of a file."""
    if ref.data is not None:
        return ref.data
    assert ref.pixels is not None
    buffer = BytesIO()
    ref.pixels.save(buffer, format="PNG")
    return buffer.getvalue()


class PairsFile:
    """A file of pairs.

    Pictures that lie below its folder are named by the way from there; if one lies elsewhere, all are named in full,
    and whoever reads the file sets `image_root` to `/`. Pictures that stand in the records themselves are written to a
    folder beside it.

    Args:
        path: where to write; `.jsonl` or `.json`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pictures = path.with_name(f"{path.stem}_images")

    def write(self, pairs: Sequence[JudgedPair], metric: str) -> bool:
        """Write all pairs, whole or not at all; whether the pictures are named in full.

        Raises:
            OSError: the file or a picture cannot be written.
        """
        paths = [[self._file_of(ref) for ref in pair.asked.images] for pair in pairs]
        folder = self.path.absolute().parent
        in_full = not all(path.is_relative_to(folder) for named in paths for path in named)
        rows = [
            _record(pair, [str(path) if in_full else path.relative_to(folder).as_posix() for path in named], metric)
            for pair, named in zip(pairs, paths, strict=True)
        ]
        write_whole(self.path, "".join(_lines(rows, self.path.suffix)))
        return in_full

    def in_files(self, asked: Conversation) -> Conversation:
        """The question with its pictures as files, those that its record holds written."""
        return replace(asked, images=tuple(ImageRef(path=self._file_of(ref)) for ref in asked.images))

    def _file_of(self, ref: ImageRef) -> Path:
        if ref.path is not None:
            return ref.path.absolute()
        content = _encoded(ref)
        with Image.open(BytesIO(content)) as picture:
            ending = (picture.format or "png").lower()
        path = self.pictures.absolute() / f"{hashlib.sha256(content).hexdigest()[:16]}.{ending}"
        if not path.is_file():
            write_whole(path, content)
        return path


def _record(pair: JudgedPair, images: Sequence[str], metric: str) -> Mapping[str, object]:
    asked, chosen, rejected = pair.asked, pair.pair.chosen, pair.pair.rejected
    known: dict[str, object] = {} if asked.image_id is None else {"image_id": asked.image_id}
    return {
        "id": asked.id if pair.number == 0 else f"{asked.id}#{pair.number}",
        "images": list(images),
        "prompt": [_message(turn) for turn in question_turns(asked)],
        "chosen": [_said(chosen)],
        "rejected": [_said(rejected)],
        **known,
        "score_chosen": chosen.score,
        "score_rejected": rejected.score,
        "metadata": {"metric": metric, "samples": [chosen.sampled.sample, rejected.sampled.sample]},
    }


def _message(turn: Turn) -> dict[str, object]:
    parts = [
        {"type": "image"} if isinstance(part, ImageSlot) else {"type": "text", "text": part} for part in turn.content
    ]
    return {"role": turn.role, "content": parts}


def _said(answer: JudgedAnswer) -> dict[str, object]:
    return {"role": "assistant", "content": [{"type": "text", "text": answer.text}]}


def _lines(rows: Sequence[Mapping[str, object]], form: str) -> Iterable[str]:
    if form == ".jsonl":
        return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return [json.dumps(rows, ensure_ascii=False, indent=1) + "\n"]
