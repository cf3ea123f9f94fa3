"""Feature store: vision features on disk, found by the bytes of their image.

A folder of safetensors files, each with some hundred megabytes of images, written whole and then renamed: whatever is
killed at whatever moment, a file is there with all that is in it or not at all. Any number of processes may fill one
folder at once. Images are known by their bytes; whatever else features follow from (processor, tower, precision) is
the store's identity, and another identity is another folder beside it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlm_lit.data.features.stored_images import StoredImage
from vlm_lit.data.images.images import image_digest
from vlm_lit.errors import ConfigError
from vlm_lit.files.staged import sweep
from vlm_lit.files.whole import fill_whole, write_whole
from vlm_lit.schema import Conversation, ImageRef

SHARD_BYTES: Final = 256 * 2**20
"""How much is gathered before it is written: what a kill can cost, and 400 files for 100 GB."""

LEFT_FREE: Final = 2**30
"""Bytes that filling never takes from a disk."""

_FORMAT: Final = 1
_IDENTITY: Final = "identity.json"


class FeatureStore:
    """The images of one identity.

    Args:
        root: the folder for all identities.
        identity: what features follow from besides an image's bytes; anything that JSON can write.

    Raises:
        ConfigError: the folder cannot be made or read.
    """

    def __init__(self, root: Path, identity: Mapping[str, object]) -> None:
        described = json.dumps({"format": _FORMAT, **identity}, sort_keys=True, indent=1)
        self.folder = root / hashlib.sha256(described.encode()).hexdigest()[:32]
        self._described = described
        self._shard_of: dict[str, Path] = {}
        self._read: set[Path] = set()
        self._open: dict[Path, Any] = {}
        self._notes: dict[Path, dict[str, Any]] = {}
        self._file_keys: dict[Path, str] = {}
        self.refresh()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": {}}  # each process maps the files itself

    def __len__(self) -> int:
        return len(self._shard_of)

    def __contains__(self, key: str) -> bool:
        return key in self._shard_of

    def refresh(self) -> None:
        """See what other processes have written since."""
        for shard in sorted(set(self.folder.glob("*.safetensors")) - self._read):
            for name in self._opened(shard).keys():  # noqa: SIM118 - not a mapping
                key, _, what = name.partition("/")
                if what == "replacement":
                    self._shard_of.setdefault(key, shard)
            self._read.add(shard)

    def _opened(self, shard: Path) -> Any:  # noqa: ANN401 - safetensors has no types
        if shard not in self._open:
            try:
                self._open[shard] = safe_open(shard, framework="pt")
            except (OSError, SafetensorError) as error:
                raise _damaged(shard, error) from None
        return self._open[shard]

    # Reading -----------------------------------------------------------------------------------------------------

    def key(self, ref: ImageRef) -> str:
        """What names an image: the digest of its file's bytes, or of its pixels where it has no file.

        Raises:
            OSError: its file cannot be read.
        """
        if ref.path is None:
            return image_digest(ref)
        if ref.path not in self._file_keys:
            self._file_keys[ref.path] = image_digest(ref)
        return self._file_keys[ref.path]

    def know(self, files: Mapping[Path, str]) -> None:
        """Take the keys of image files from another process, which has read them."""
        self._file_keys.update(files)

    def get(self, key: str) -> StoredImage:
        """What is kept of an image, its tensors views of the mapped file.

        Raises:
            KeyError: it is not there.
            ConfigError: its file is damaged.
        """
        path = self._shard_of[key]
        shard = self._opened(path)
        try:
            notes = self._notes_of(path)
            kept = {name: shard.get_tensor(f"{key}/{name}") for name in notes["names"]}
            # Files of earlier versions have no checksums.
            if notes["checksums"] and notes["checksums"][key] != checksum(kept):
                raise ValueError("an image's features are not those that were written")
            return _image(kept)
        except (LookupError, TypeError, ValueError, RecursionError, SafetensorError, zlib.error) as error:
            raise _damaged(path, error) from None

    def _notes_of(self, shard: Path) -> dict[str, Any]:
        """What a file says of itself: the tensors that an image has, and the checksum of each image."""
        if shard not in self._notes:
            metadata = self._opened(shard).metadata()
            self._notes[shard] = {
                "names": json.loads(metadata["names"]),
                "checksums": json.loads(metadata.get("checksums", "{}")),
            }
        return self._notes[shard]

    def found(self, conversations: Sequence[Conversation]) -> list[list[StoredImage]] | None:
        """What is kept of each conversation's images; None where one of them is missing, or there are none."""
        try:
            keys = [[self.key(ref) for ref in conversation.images] for conversation in conversations]
        except (OSError, ValueError):  # the slow road says what is wrong with the image
            return None
        if not any(keys) or any(key not in self for group in keys for key in group):
            return None
        return [[self.get(key) for key in group] for group in keys]

    # Writing -----------------------------------------------------------------------------------------------------

    def write(self, images: Mapping[str, StoredImage]) -> None:
        """Keep images, all of them or, if this is killed, none.

        Raises:
            ConfigError: the folder cannot be written, or the disk is full.
        """
        if not images:
            return
        tensors: dict[str, Tensor] = {}
        for key, image in images.items():
            tensors |= {f"{key}/{name}": tensor.contiguous() for name, tensor in _named(image).items()}
        notes = {
            "names": json.dumps(list(_named(next(iter(images.values()))))),
            "checksums": json.dumps({key: checksum(_named(image)) for key, image in images.items()}),
        }
        shard = self.folder / f"{uuid4().hex}.safetensors"
        try:
            if not (self.folder / _IDENTITY).exists():
                write_whole(self.folder / _IDENTITY, self._described)
            fill_whole(shard, lambda staging: save_file(tensors, staging, metadata=notes))
        except (OSError, SafetensorError) as error:
            raise ConfigError(
                f"Vision features cannot be written to {self.folder}: {error}. Free some space there, name another "
                "folder as data.init_args.feature_cache, or leave it out."
            ) from error
        self.refresh()

    def sweep(self) -> None:
        """Delete what killed processes left unfinished."""
        sweep(self.folder)


def _named(image: StoredImage) -> dict[str, Tensor]:
    text = zlib.compress(image.replacement.encode())
    return {
        "replacement": torch.frombuffer(bytearray(text), dtype=torch.uint8),
        **{f"feature {k:03}": tensor for k, tensor in enumerate(image.features)},
        **{f"field {name}": tensor for name, tensor in image.fields.items()},
        **{f"count {name}": torch.tensor(count) for name, count in image.counts.items()},
    }


def _image(kept: Mapping[str, Tensor]) -> StoredImage:
    """An image of the tensors that are kept of it."""
    return StoredImage(
        features=tuple(kept[name] for name in sorted(kept) if name.startswith("feature")),
        replacement=zlib.decompress(kept["replacement"].numpy().tobytes()).decode(),
        fields={name.removeprefix("field "): kept[name] for name in kept if name.startswith("field ")},
        counts={name.removeprefix("count "): int(kept[name]) for name in kept if name.startswith("count ")},
    )


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of the bytes of some tensors, in the order of their names."""
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data, found)
    return found


def _damaged(shard: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{shard} cannot be read ({error}). Delete it; its images are computed again.")


def check_room(root: Path, *, images: int, bytes_each: float, most: float | None) -> None:
    """Refuse to begin what would fill the disk.

    Args:
        root: the folder to be filled.
        images: how many images are still to be computed.
        bytes_each: what one takes.
        most: most bytes to add; None for as many as the disk has.

    Raises:
        ConfigError: how much is needed, how much there is, and what to do.
    """
    needed, free = images * bytes_each, _free(root)
    said = f"The vision features of {images:,} images need about {_shown(needed)} ({_shown(bytes_each)} each)"
    remedy = "Use fewer or smaller images, another folder, or leave feature_cache out"
    if most is not None and needed > most:
        raise ConfigError(
            f"{said}, and data.init_args.feature_cache_gb allows {_shown(most)}. Nothing was written. {remedy}."
        )
    if needed > free - LEFT_FREE:
        raise ConfigError(
            f"{said}; {root} has {_shown(free)} free, of which {_shown(LEFT_FREE)} are to stay so. Nothing was "
            f"written. {remedy}."
        )


def _free(root: Path) -> int:
    there = root.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def _shown(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
