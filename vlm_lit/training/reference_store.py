"""Log-probabilities of a reference kept on disk: computed once ahead of a run, read from then on.

They follow from the pair, its pictures' contents, the start of the run, the processor and the precision. All of these
are in the name that a value is kept under, so that where one of them differs nothing is found, and it is computed anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from vlm_lit.data.loaders import loader
from vlm_lit.data.rows.device import to_device
from vlm_lit.data.rows.pairs import Corrupts, PairBatch, PairCollator
from vlm_lit.errors import RecordError, raised
from vlm_lit.files.whole import write_whole
from vlm_lit.models.adapter_state import file_sha256
from vlm_lit.schema import ImageRef, ImageSlot, Preference, StepBatch
from vlm_lit.training.ranks import Ranks

_TOGETHER: Final = 8
"""Pairs that are handed over at once; they are cut into micro-batches as in training."""

SAVE_EVERY = 300.0
"""Seconds after which the first process keeps what it has computed so far; all of it is kept at the end."""

Sides = tuple[float, ...]
"""The log-probabilities of a pair's chosen and rejected answer, and of the chosen one behind a corrupted picture."""

SIDES: Final = ("chosen", "rejected", "corrupted")


class ReferenceStore:
    """The kept log-probabilities of one reference, under the keys of their pairs.

    Args:
        folder: where they are kept, a file for each identity.
        identity: all that they follow from besides the pairs.
    """

    def __init__(self, folder: Path, identity: Mapping[str, object]) -> None:
        text = json.dumps(identity, sort_keys=True, default=str)
        self.identity, self.file = json.loads(text), folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def read(self) -> dict[str, Sides]:
        """All that is kept; nothing where the file is missing, not whole, or not of this form."""
        try:
            kept = json.loads(self.file.read_text(encoding="utf-8"))
            if kept["identity"] != self.identity:
                return {}
            return {str(key): tuple(map(_finite, values)) for key, values in kept["log_probs"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def write(self, log_probs: Mapping[str, Sides]) -> None:
        """Keep these, whole or not at all."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.file, json.dumps({"identity": self.identity, "log_probs": log_probs}) + "\n")


def _finite(value: object) -> float:
    if isinstance(value, float | int) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{value} is no log-probability")


def pair_key(pair: Preference, corrupted: Corrupts | None = None) -> str:
    """What names a pair by what is said in it, by its pictures' contents, and by how they are corrupted."""
    said = [
        [[turn.role, [None if isinstance(part, ImageSlot) else part for part in turn.content]] for turn in side.turns]
        for side in (pair.chosen, pair.rejected)
    ]
    parts: list[object] = [said, [_contents(image) for image in pair.images]]
    if corrupted is not None:
        parts.append([_contents(one) if isinstance(one, ImageRef) else one for one in corrupted.names(pair)])
    text = json.dumps(parts)
    return hashlib.sha256(text.encode()).hexdigest()


def _contents(image: ImageRef) -> str:
    if image.path is not None:
        about = image.path.stat()
        return _of_file(image.path, about.st_size, about.st_mtime_ns)
    if image.digest is not None:
        return image.digest
    assert image.pixels is not None
    return hashlib.sha256(f"{image.pixels.mode} {image.pixels.size}".encode() + image.pixels.tobytes()).hexdigest()


@lru_cache(maxsize=65536)
def _of_file(path: Path, _size: int, _changed: int) -> str:
    return file_sha256(path)


class IndexedPairs(Protocol):
    """Pairs by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Preference: ...


def filled(
    store: ReferenceStore,
    dataset: IndexedPairs,
    collator: PairCollator,
    reference: Callable[[PairBatch], Tensor],
    *,
    ids: Sequence[str] | None = None,
    device: torch.device,
    say: Callable[[str], None],
    workers: int = 0,
    ranks: Ranks,
) -> dict[str, float]:
    """The reference's log-probability of each answer of a data set, by the answer's id; what is missing is computed.

    Args:
        store: where they are kept.
        dataset: the pairs.
        collator: makes batches of them.
        reference: the log-probability of each answer of a batch [N], in the order of its `ids`.
        ids: the pairs' ids, where they are known without reading the records.
        device: where.
        say: takes a line of progress.
        workers: processes that decode and tokenize; 0 does it in this one.
        ranks: the processes, each of which takes a share of the pairs.

    Raises:
        RecordError: a pair cannot be used.
    """
    kept = store.read()
    keys = _keys(dataset, collator.corrupted, ranks)
    names = ids or [dataset[i].id for i in range(len(dataset))]
    first = dict[str, int]()
    for i, key in enumerate(keys):
        first.setdefault(key, i)
    there = sum(key in kept for key in keys)
    missing = sum(key not in kept for key in first)
    say(f"Reference: {len(keys):,} pairs, {there:,} found in {store.file}, {missing:,} to compute.")
    # A share of all and not of what is missing: another process may be writing what one rank has read and one has not.
    share = list(first.values())[ranks.rank :: ranks.world]
    mine = {keys[i]: kept[keys[i]] for i in share if keys[i] in kept}
    wanted = [i for i in share if keys[i] not in kept]
    if wanted:
        chunks = _chunks(wanted)
        # A loader draws a number; the run's are left to it.
        options = {"batch_sampler": chunks, "generator": torch.Generator()}
        batches = loader(dataset, collate_fn=collator, workers=workers, **options)
        saved = time.monotonic()
        for chunk, said in _said(batches, chunks, reference, device):
            # An over-length pair may have been left out.
            mine |= {keys[i]: values for i in chunk if (values := _sides(names[i], said))}
            if ranks.rank == 0 and time.monotonic() - saved >= SAVE_EVERY:
                store.write({**store.read(), **mine})
                saved = time.monotonic()
    kept = {key: values for part in ranks.each(mine) for key, values in part.items()}
    if ranks.rank == 0 and missing:
        store.write({**store.read(), **kept})
    known = [(name, kept[key]) for name, key in zip(names, keys, strict=True) if key in kept]
    # SIDES has one name more than a pair has values where no picture is corrupted.
    return {f"{name}/{side}": value for name, values in known for side, value in zip(SIDES, values, strict=False)}


def _keys(dataset: IndexedPairs, corrupted: Corrupts | None, ranks: Ranks) -> list[str]:
    """Each pair's key, for which its pictures are read: by the rank whose share it is in."""
    n = len(dataset)
    own: dict[int, str] | RecordError
    try:  # neighbours often show one picture
        share = range(n * ranks.rank // ranks.world, n * (ranks.rank + 1) // ranks.world)
        own = {i: pair_key(dataset[i], corrupted) for i in share}
    except RecordError as error:
        own = error  # the others wait for it
    known = {i: key for found in ranks.each(own) for i, key in raised(found).items()}
    return [known[i] if i in known else pair_key(dataset[i], corrupted) for i in range(n)]


def _chunks(wanted: Sequence[int]) -> list[Sequence[int]]:
    return [wanted[at : at + _TOGETHER] for at in range(0, len(wanted), _TOGETHER)]


def _said(
    batches: Iterable[StepBatch[PairBatch] | RecordError],
    chunks: Sequence[Sequence[int]],
    reference: Callable[[PairBatch], Tensor],
    device: torch.device,
) -> Iterator[tuple[Sequence[int], dict[str, float]]]:
    """The reference's log-probability of each answer of a chunk, by the answer's id, a chunk at a time."""
    with tqdm(total=sum(map(len, chunks)), desc="Reference", unit=" pairs", leave=False, disable=None) as bar:
        for chunk, made in zip(chunks, batches, strict=True):
            said = dict[str, float]()
            for batch in raised(made).micro_batches:
                to_device(batch, device)
                said |= zip(batch.ids, reference(batch).tolist(), strict=True)
            bar.update(len(chunk))
            yield chunk, said


def _sides(name: str, said: Mapping[str, float]) -> Sides:
    return tuple(said[answer] for side in SIDES if (answer := f"{name}/{side}") in said)
