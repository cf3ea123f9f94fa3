"""Small copies, in the run's directory, of images that lie in no file of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from vlm_lit.data.images.images import load_images
from vlm_lit.schema import Conversation, Prediction

FOLDER: Final = "pictures"
MOST: Final = 1000
_LONG_SIDE: Final = 512


def with_pictures(
    predictions: Sequence[Prediction], conversations: Iterable[Conversation], run: Path
) -> list[Prediction]:
    """Predictions that name a small copy of their first image, where the image lies in no file of its own.

    Copies are written to `run/pictures/`, named by the picture's contents, for the first thousand different ones; the
    path a prediction then holds is relative to `run`.

    Args:
        predictions: the answers, in any order.
        conversations: what was asked, images included.
        run: the run's directory.
    """
    kept: dict[str, str] = {}
    names: set[str] = set()
    for conversation in conversations:
        digest = conversation.images[0].digest if conversation.images else None
        if digest is None:
            continue
        name = f"{FOLDER}/{digest[:16]}.jpg"
        if name not in names:
            if len(names) == MOST:
                continue
            names.add(name)
            _keep(conversation, run / name)
        kept[conversation.id] = name
    return [replace(p, image=kept.get(p.id, p.image)) for p in predictions]


def _keep(conversation: Conversation, path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = load_images(replace(conversation, images=conversation.images[:1]))[0]
    picture.thumbnail((_LONG_SIDE, _LONG_SIDE))
    picture.save(path, "JPEG", quality=85)
