"""WebDataset shards and a saved table with the same records, whose pictures are large enough to count bytes."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
from PIL import Image


def noise(seed: int, side: int) -> bytes:
    """A picture that no compression makes smaller: about three bytes a pixel."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """An archive of files by name, in this order."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_shards(folder: Path, count: int, shards: int, *, side: int) -> str:
    """Samples `s000`, `s001`, ..., each a question with its picture; the pattern of the shards."""
    folder.mkdir(parents=True, exist_ok=True)
    each = -(-count // shards)
    for k in range(shards):
        members: dict[str, bytes] = {}
        for i in range(k * each, min(count, (k + 1) * each)):
            answer = ["red", "two", "no"][i % 3]
            members[f"s{i:03}.json"] = json.dumps({"question": f"lamp {i}?", "answers": [answer]}).encode()
            members[f"s{i:03}.png"] = noise(i, side)
        write_tar(folder / f"shard{k:02}.tar", members)
    return str(folder / "shard*.tar")


def write_saved(folder: Path, count: int, *, side: int) -> str:
    """The same records as a folder that `datasets` saves."""
    rows = [
        {"question": f"lamp {i}?", "answers": ["red"], "image": {"bytes": noise(i, side), "path": None}}
        for i in range(count)
    ]
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    table.save_to_disk(str(folder))
    return str(folder)


def write_lines(path: Path, count: int) -> str:
    """The same questions in JSON lines, without pictures."""
    rows = [{"question": f"lamp {i}?", "answers": [["red", "two", "no"][i % 3]]} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)
