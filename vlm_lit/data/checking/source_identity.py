"""Identity of what a check follows from: the files of records, how they are read, and what makes rows of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from vlm_lit.data.checkpoint.processors import tokenizer_sha256
from vlm_lit.data.records.locate import locate
from vlm_lit.data.records.preference_dataset import CheckedDataset
from vlm_lit.data.records.record_sequences import table_fingerprints
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.data.rows.conversation_encoder import TextLengths

_WHOLE: Final = 1024**3  # bytes up to which a file is read whole
_END: Final = 1024**2
_LIBRARIES: Final = ("vlm_lit", "transformers", "tokenizers", "datasets", "pillow", "jinja2")
_CODE: Final = ("data", "files")  # the package's folders that the check is made of


def source_identity(dataset: CheckedDataset) -> dict[str, object]:
    """What the records of a data set follow from: its settings, and its files by their contents."""
    source, reading = dataset.reading.source, dataset.reading
    root = source.image_root
    return {
        "source": asdict(source),
        "image_root": None if root is None else str(Path(root).absolute()),
        "files": {str(path.absolute()): _digest(path) for path in _files(source)},
        "tables": table_fingerprints(dataset.records),
        "images": table_fingerprints(reading.images.records) if reading.images is not None else [],
        "prompt": reading.prompt,
        "system": reading.system,
        "requires_answer": reading.requires_answer,
        "read_as": type(reading).__name__,
    }


def encoder_identity(encoder: TextLengths) -> dict[str, object]:
    """What makes rows of conversations: the chat template, the tokenizer, and the code."""
    tokenizer, processor = encoder.tokenizer, encoder.processor
    return {
        "encoder": type(encoder).__name__,
        "processor": type(processor).__name__,
        "template": getattr(processor, "chat_template", None),
        "tokenizer": tokenizer_sha256(tokenizer),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "images": [str(getattr(processor, name, "")) for name in ("image_token", "video_token")],
        "versions": [_code(), *map(version, _LIBRARIES)],
    }


@cache
def _code() -> str:
    """The digest of the code that records go through: a checkout changes without its version."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for file in sorted(file for folder in _CODE for file in (root / folder).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(source: SourceSettings) -> Iterator[Path]:
    """The local files that records come from, those that they are joined with among them."""
    own = [source.path] if isinstance(source.path, str) else source.path
    joined = [source.images_from.path] if source.images_from is not None else []
    if source.annotations is not None:
        yield Path(source.annotations).expanduser()
    for name in own:
        yield from _located(name, source.split)
    for name in joined:
        yield from _located(name, source.images_from.split if source.images_from is not None else "train")


def _located(name: str, split: str) -> Iterator[Path]:
    found = locate(name, split)
    if found.kind == "saved" and found.folder is not None:
        yield from sorted(file for file in found.folder.rglob("*") if file.is_file())
    yield from found.files


def _digest(path: Path) -> str:
    about = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if about.st_size <= _WHOLE:
            while block := file.read(8 * _END):
                digest.update(block)
        else:
            digest.update(file.read(_END))
            file.seek(about.st_size - _END)
            digest.update(file.read(_END) + f"{about.st_size} {about.st_mtime_ns}".encode())
    return digest.hexdigest()
