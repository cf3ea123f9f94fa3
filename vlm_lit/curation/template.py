"""Records for a folder of pictures, with places for the words that somebody is to write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import write_whole

TEMPLATE_FILE: Final = "annotate.jsonl"
_PICTURES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_QUESTION: Final = "[ANNOTATE: a question about this picture]"
_ANSWER: Final = "[ANNOTATE: the answer]"


def write_template(folder: Path, questions: Sequence[str], output: Path | None) -> tuple[Path, int]:
    """Write a record for each picture and question; the file, and how many there are.

    Args:
        folder: of the pictures.
        questions: to be answered of every picture; none leaves the question to be written as well.
        output: the file; None for `annotate.jsonl` in the folder. Paths in it start from the folder that it stands in.

    Raises:
        ConfigError: no folder, no picture, or a file that is there already.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder. Name the folder of the pictures.")
    pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES and path.is_file())
    if not pictures:
        raise ConfigError(f"{folder} holds no picture that ends in {', '.join(_PICTURES)}.")
    file = output if output is not None else folder / TEMPLATE_FILE
    if file.exists():
        raise ConfigError(f"{file} exists, and somebody may have written in it. Name another --output.")
    base = file.absolute().parent
    lines = [
        json.dumps({"image": _path(picture, base), "question": question, "answer": _ANSWER}, ensure_ascii=False)
        for picture in pictures
        for question in (questions or [_QUESTION])
    ]
    try:
        write_whole(file, "\n".join(lines) + "\n")
    except OSError as error:
        raise ConfigError(f"--output {file} cannot be written: {error.strerror}. Name another file.") from error
    return file, len(lines)


def _path(picture: Path, base: Path) -> str:
    """The picture as seen from the file's folder; from the root of the disk where it lies elsewhere."""
    picture = picture.absolute()
    return (picture.relative_to(base) if picture.is_relative_to(base) else picture).as_posix()
