"""Damage to a checkpoint's file, and checkpoints that lack something or come from elsewhere."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from safetensors.torch import save


@dataclass(frozen=True)
class Damage:
    """What is done to the bytes of a file."""

    name: str
    done: Callable[[bytes], bytes]

    def to(self, path: Path) -> Path:
        """Do it to a file."""
        path.write_bytes(self.done(path.read_bytes()))
        return path


def truncated(size: int, places: int) -> Iterator[Damage]:
    """The file cut at so many places, and in each of its last bytes."""
    for length in {*range(0, size, max(1, size // places)), *range(max(0, size - 8), size)}:
        yield Damage(f"cut at {length}", lambda whole, n=length: whole[:n])  # type: ignore[misc]


def flipped(size: int, places: int, draw: Random) -> Iterator[Damage]:
    """One bit flipped, at so many places at random, and in the first and the last bytes."""
    at_random = (draw.randrange(size) for _ in range(places))
    for at in (*at_random, *range(40), *range(size - 60, size)):
        bit = 1 << draw.randrange(8)
        yield Damage(
            f"bit {bit} of byte {at} flipped",
            lambda whole, at=at, bit=bit: whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :],  # type: ignore[misc]
        )


def overwritten(size: int, places: int, draw: Random) -> Iterator[Damage]:
    """A block lost, zeroed, or in another's place, as disks and copies do it; and something behind the end."""
    for _ in range(places):
        at, length = draw.randrange(size), draw.choice((1, 16, 512, 4096))
        yield Damage(f"{length} bytes at {at} lost", lambda w, at=at, n=length: w[:at] + w[at + n :])  # type: ignore[misc]
        yield Damage(
            f"{length} bytes at {at} other ones",
            lambda w, at=at, n=length: w[:at] + bytes(b ^ 0x55 for b in w[at : at + n]) + w[at + n :],  # type: ignore[misc]
        )
    yield Damage("a byte behind its end", lambda whole: whole + b"\0")
    yield Damage("itself behind its end", lambda whole: whole + whole)
    yield Damage("nothing but zeros", lambda whole: bytes(len(whole)))


# Another content ------------------------------------------------------------------------------------------------------

Content = dict[str, Any]

LOST: Final[dict[str, tuple[str, Callable[[Content], object]]]] = {
    "loops": ("counters of the loops", lambda c: c.pop("loops")),
    "the loops' counters of steps": (
        "counters of the loops",
        lambda c: c["loops"]["fit_loop"].pop("epoch_loop.manual_optimization.optim_step_progress"),
    ),
    "position": ("position in the data", lambda c: c.pop(next(key for key in c if key.endswith("DataModule")))),
    "position of the same step": (
        "position in the data",
        lambda c: c[next(key for key in c if key.endswith("DataModule"))].update(step=1),
    ),
    "identity": ("identity of the base", lambda c: c.pop("identity")),
    "course": ("course (data", lambda c: c.pop("course")),
    "names of the parameters": ("names of the trained parameters", lambda c: c.pop("trainable_names")),
    "optimizer states": ("state of an optimizer", lambda c: c.pop("optimizer_states")),
    "any optimizer": ("state of an optimizer", lambda c: c["optimizer_states"].clear()),
    "an optimizer's moments": ("state of an optimizer", lambda c: c["optimizer_states"][0]["state"].clear()),
    "schedule": ("learning rate's schedule", lambda c: c.pop("lr_schedulers")),
    "weights": ("weights", lambda c: c.pop("state_dict")),
    "version": ("version of Lightning", lambda c: c.pop("pytorch-lightning_version")),
}
"""What a checkpoint may lack: the words that say so, and what takes it out."""


def without(content: Content, what: str) -> Content:
    """A copy of a checkpoint's content that lacks something of `LOST`."""
    copy = deepcopy(content)
    LOST[what][1](copy)
    return copy


def strangers(content: Content) -> dict[str, bytes]:
    """Files of other programs under a checkpoint's name."""
    weights = content["state_dict"]
    plain = {key: content[key] for key in ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops",
                                           "callbacks", "optimizer_states", "lr_schedulers")}  # fmt: skip
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", b"0" * 10_000)
    return {
        "nothing": b"",
        "text": b"step 3\n",
        "JSON": json.dumps({"global_step": 3}).encode(),
        "safetensors": save({name: tensor.contiguous() for name, tensor in weights.items()}),
        "a zip archive of something else": archive.getvalue(),
        "a pickle": pickle.dumps({"global_step": 3}, protocol=2),
        "weights alone": _saved(weights),
        "Lightning's own checkpoint of another project": _saved(plain),
        "torch's old format": _saved(content, _use_new_zipfile_serialization=False),
        "a list": _saved([content]),
        "a step that is no number": _saved({**content, "global_step": "three"}),
    }


def _saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()
