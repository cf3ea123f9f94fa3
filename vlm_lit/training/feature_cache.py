"""Filling of the feature store with the vision features of a run's images, before the run begins."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import lightning
from torch import nn

from vlm_lit.data.checkpoint.processors import processor_identity
from vlm_lit.data.distinct_images import Found, ProcessedImage, distinct_images, processed_images
from vlm_lit.data.features.feature_store import SHARD_BYTES, FeatureStore, check_room
from vlm_lit.data.features.stored_images import StoredImage
from vlm_lit.data.rank_share import RankShare
from vlm_lit.data.records.record_dataset import RecordDataset
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.errors import ConfigError
from vlm_lit.models.families import Family, family_of
from vlm_lit.models.loading import load_config
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.vision_features import answers_from_features, check_cacheable, tower_features, tower_identity
from vlm_lit.schema import Conversation

_TOGETHER: Final = 4
"""Images that workers hand over at once, and that sizes are estimated from."""

_GIGABYTE: Final = 1e9

Say = Callable[[str], None]


def open_store(
    data: TokenRows[Any], base: nn.Module, family: Family, precision: str, folder: str | Path | None = None
) -> FeatureStore:
    """The store for this processor, this tower and this precision.

    Args:
        data: names the folder and has the processor.
        base: the model without its PEFT shell.
        family: its facts.
        precision: the trainer's, since autocast changes what a tower computes.
        folder: another folder than the one that `data` names.

    Raises:
        ConfigError: no folder is named, or it cannot be used.
    """
    folder = folder or data.feature_cache
    if folder is None:
        raise ConfigError("No folder is named for vision features: set data.init_args.feature_cache.")
    identity = {
        "processor": _images_only(data),
        "tower": tower_identity(base, family),
        "precision": precision,
        "handed_over": family.projected,
    }
    return FeatureStore(Path(folder), identity)


def _images_only(data: TokenRows[Any]) -> dict[str, object]:
    """What a processor makes of an image follows from its image settings and its own, not from its chat template."""
    identity = {name: value for name, value in processor_identity(data.processor).items() if "template" not in name}
    own = {name: value for name, value in vars(data.processor).items() if isinstance(value, str | int | float | bool)}
    return {**identity, "own": {name: value for name, value in own.items() if "template" not in name}}


def fill(
    store: FeatureStore,
    data: TokenRows[Any],
    base: nn.Module,
    family: Family,
    *,
    say: Say,
    rank: int = 0,
    world: int = 1,
    each: Callable[[Found], list[Found]] | None = None,
    conversations: Sequence[Conversation] | None = None,
) -> None:
    """Compute what the store lacks of the images of all data sets that are open. Any number may do so at once.

    Args:
        store: where features go.
        data: its data sets, processor, workers and limit.
        base: the model without its PEFT shell, its tower frozen and in evaluation mode.
        family: its facts.
        say: takes a line of progress.
        rank, world: which share of the images is this process's.
        each: puts together what ranks have found, so that each reads the image files of its share alone.
        conversations: whose images, instead of all that are open.

    Raises:
        ConfigError: the features would not fit; nothing has been written then.
        RecordError: an image cannot be used.
    """
    looked_at = [*shown(data, family), *data.also_shown()] if conversations is None else [conversations]
    wanted = distinct_images(looked_at, store, RankShare(rank, world), each)
    # A share of all and not of what is missing: ranks see others' images come in at different times.
    mine = [key for key in list(wanted)[rank::world] if key not in store]
    missing = sum(key not in store for key in wanted)
    say(
        f"Vision features: {len(wanted):,} distinct images, {len(wanted) - missing:,} found in {store.folder}, "
        f"{missing:,} to compute."
    )
    if mine:
        store.sweep()
        _compute(store, data, _Tower(base, family), wanted, mine, total=missing, say=say)


def shown(data: TokenRows[Any], family: Family) -> list[RecordDataset[Any]]:
    """The data sets whose images a run shows from kept features.

    Raises:
        ConfigError: one is a stream.
    """
    used = [split for split in data.datasets if split == "train" or answers_from_features(family)]
    found = []
    for split in used:
        dataset = data.datasets[split]
        if not isinstance(dataset, RecordDataset):
            raise ConfigError(
                f"data.{split} is streamed, so nobody knows its images before they come: set streaming to false, or "
                "leave data.init_args.feature_cache out."
            )
        found.append(dataset)
    return found


class _Tower:
    """The frozen tower, asked about one image."""

    def __init__(self, base: nn.Module, family: Family) -> None:
        self.base, self.family = base, family
        self.device = next(base.get_submodule(family.vision_tower[0]).parameters()).device

    def __call__(self, look: ProcessedImage) -> StoredImage:
        inputs = {name: tensor.to(self.device) for name, tensor in look.inputs.items()}
        features = tower_features(self.base, self.family, inputs)
        return replace(look.image, features=tuple(tensor.cpu().clone() for tensor in features))


def _compute(
    store: FeatureStore,
    data: TokenRows[Any],
    tower: _Tower,
    images: Mapping[str, Conversation],
    keys: Sequence[str],
    *,
    total: int,
    say: Say,
) -> None:
    made: dict[str, StoredImage] = {}
    fits, done = False, 0
    mixed = _shuffled(keys)
    for batch in processed_images(data.processor, images, mixed, together=_TOGETHER, workers=data.num_workers):
        store.refresh()
        made |= {look.key: tower(look) for look in batch if look.key not in store}
        done += len(batch)
        if made and not fits:
            check_room(store.folder, images=total, bytes_each=_size(made) / len(made), most=_limit(data))
            fits = True
        if _size(made) >= SHARD_BYTES:
            store.write(made)
            made = {}
            say(f"Vision features: {done:,} of {len(keys):,} computed.")
    store.write(made)


def _size(images: Mapping[str, StoredImage]) -> int:
    return sum(image.size for image in images.values())


def _limit(data: TokenRows[Any]) -> float | None:
    return None if data.feature_cache_gb is None else data.feature_cache_gb * _GIGABYTE


def _shuffled(keys: Sequence[str]) -> list[str]:
    """In an order that no other process has: each does different images, and skips what others have done meanwhile."""
    return random.Random(secrets.randbits(64)).sample(keys, len(keys))


def check_run(data: TokenRows[Any], model_id: str, revision: str | None, parts: PartsSettings) -> None:
    """Refuse a run whose kept features would be wrong in its next step; asked before the model is loaded.

    Raises:
        ConfigError: the features would change while training, the family is not known to take them, or a data set is
            a stream.
    """
    model_type = load_config(model_id, revision).model_type
    family = family_of(model_type)
    check_cacheable(family, model_type, parts)
    shown(data, family)


def filled_store(
    data: TokenRows[Any],
    base: nn.Module,
    family: Family,
    trainer: lightning.Trainer,
    *,
    say: Say,
    rank: int = 0,
    world: int = 1,
    each: Callable[[Found], list[Found]] | None = None,
) -> FeatureStore:
    """The store of a model that is loaded and on its device, with all images of its data in it.

    Raises:
        ConfigError: the features would not fit.
        RecordError: an image cannot be used.
    """
    store = open_store(data, base, family, str(trainer.precision))
    with trainer.precision_plugin.forward_context():
        fill(store, data, base, family, say=say, rank=rank, world=world, each=each)
    return store
