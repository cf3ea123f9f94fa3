"""Small copies of items' images as `data:` addresses, for pages that are one file."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image

from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.data.images.images import load_image
from vlm_lit.schema import ImageRef

LONG_SIDE: Final = 320
_FEW_PIXELS: Final = 100  # what is smaller is shown enlarged


@dataclass(frozen=True, kw_only=True)
class EmbeddedPicture:
    """An image as a `data:` address, or, where `uri` is None, what is missing and why."""

    name: str
    uri: str | None
    problem: str = ""
    is_tiny: bool = False


def picture(paths: Sequence[str], folders: Sequence[Path], data: Sequence[Path] = ()) -> EmbeddedPicture:
    """The first image file that can be read, made small.

    A file of answers may come from strangers and name any file, and a page is handed on: nothing is embedded that lies
    neither with the systems nor where their data lies.

    Args:
        paths: under which the systems knew the image; relative ones start from here or from one of `folders`.
        folders: of the systems.
        data: the folders that the systems' configs have their data in.
    """
    if not paths:
        return EmbeddedPicture(name="", uri=None, problem="no image file is named")
    problem = ""
    for path in (candidate for text in paths for candidate in _candidates(text, folders)):
        if not _lies_in(path, folders, data):
            problem = problem or "lies outside of the run and of the data that its config names, and is not shown"
            continue
        try:
            return _small(load_image(ImageRef(path=path)), path.name)
        except ImageProblem as found:
            problem = problem or found.problem
    return EmbeddedPicture(name=Path(paths[0]).name, uri=None, problem=problem)


def _lies_in(path: Path, folders: Sequence[Path], data: Sequence[Path]) -> bool:
    # A folder of pictures may be a link; what a run brings may not lead out of it.
    resolved = path.resolve()
    if any(resolved.is_relative_to(folder.resolve()) for folder in folders):
        return True
    written = Path(os.path.normpath(path.absolute()))
    roots = (Path(os.path.normpath(folder.absolute())) for folder in data)
    return any(root != Path(root.anchor) and written.is_relative_to(root) for root in roots)


def _candidates(text: str, folders: Sequence[Path]) -> list[Path]:
    if "\0" in text:  # no file system can look for that
        return [Path(text.replace("\0", "?"))]
    return [Path(text), *(folder / text for folder in folders if not Path(text).is_absolute())]


def _small(image: Image.Image, name: str) -> EmbeddedPicture:
    is_tiny = max(image.size) <= _FEW_PIXELS
    image.thumbnail((LONG_SIDE, LONG_SIDE))
    # Drawings are smaller as PNG, photographs as JPEG.
    encoded = min((_encoded(image, kind) for kind in ("PNG", "JPEG")), key=lambda pair: len(pair[1]))
    kind, data = encoded
    uri = f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode('ascii')}"
    return EmbeddedPicture(name=name, uri=uri, is_tiny=is_tiny)


def _encoded(image: Image.Image, kind: str) -> tuple[str, bytes]:
    buffer = BytesIO()
    image.save(buffer, kind, optimize=True, quality=82)
    return kind, buffer.getvalue()
