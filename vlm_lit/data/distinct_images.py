"""The distinct images of data sets, and what a processor makes of each of them alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import ProcessorMixin

from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.features.stored_images import Observed, StoredImage
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rank_share import RankShare
from vlm_lit.data.rows.encoding import processed
from vlm_lit.errors import RecordError, raised
from vlm_lit.schema import Conversation, Preference

_READERS: Final = 8


class Shown(Protocol):
    """Items that show images, conversations or pairs, by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...  # noqa: ANN401 - of either kind


@dataclass(frozen=True, kw_only=True)
class ProcessedImage:
    """One image as a processor sees it: its key, what is to be kept of it, and the fields that the tower takes."""

    key: str
    image: StoredImage
    inputs: dict[str, Tensor]


class Place(NamedTuple):
    """Where an image is shown first: the number of the data set, of its item, and of that one's image."""

    dataset: int
    item: int
    image: int


class DistinctImages(Mapping[str, Conversation]):
    """Images by key, each shown by a conversation and no other; its record is read when it is asked for.

    Args:
        datasets: what shows them.
        places: where each is shown first.
    """

    def __init__(self, datasets: Sequence[Shown], places: Mapping[str, Place]) -> None:
        self.datasets, self.places = datasets, places

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __getitem__(self, key: str) -> Conversation:
        place = self.places[key]
        conversation = _conversation(self.datasets[place.dataset][place.item])
        return replace(conversation, images=(conversation.images[place.image],))


class _Found(NamedTuple):
    """What one process found in its share: its images' places and keys, and those of files by their paths."""

    places: list[tuple[Place, str]]
    files: dict[Path, str]


Found: TypeAlias = "_Found | RecordError"


def distinct_images(
    datasets: Iterable[Shown],
    store: FeatureStore,
    share: RankShare = RankShare(0, 1),  # noqa: B008 - a tuple
    each: Callable[[Found], list[Found]] | None = None,
) -> DistinctImages:
    """Each distinct image of data sets. Every image file is read once, by one of the processes that look together.

    Args:
        datasets: the data sets, the same ones in every process.
        store: names images by their bytes; it knows the keys of all files then.
        share: which share of the items this process looks at, where `each` is given.
        each: puts together what the processes have found; None where this one looks at all.

    Raises:
        RecordError: an image cannot be read, by whichever process.
    """
    looked_at = list(datasets)
    own: Found
    try:
        own = _looked_at(looked_at, store, share if each is not None else RankShare(0, 1))
    except RecordError as error:
        own = error  # the others wait for it
    found = [raised(one) for one in (each(own) if each is not None else [own])]
    places: dict[str, Place] = {}
    for place, key in sorted(pair for one in found for pair in one.places):
        places.setdefault(key, place)
    for one in found:
        store.know(one.files)
    return DistinctImages(looked_at, places)


def _looked_at(datasets: Sequence[Shown], store: FeatureStore, share: RankShare) -> _Found:
    places: list[tuple[Place, str]] = []
    files: dict[Path, tuple[Place, Conversation]] = {}
    for d, dataset in enumerate(datasets):
        for i in _share(dataset, share):
            conversation = _conversation(dataset[i])
            for k, ref in enumerate(conversation.images):
                place, shown = Place(d, i, k), replace(conversation, images=(ref,))
                if ref.path is None:
                    places.append((place, _key(shown, store)))
                else:
                    files.setdefault(ref.path, (place, shown))
    with ThreadPoolExecutor(_READERS) as readers:
        keys = list(readers.map(lambda pair: _key(pair[1], store), files.values()))
    places += [(place, key) for (place, _), key in zip(files.values(), keys, strict=True)]
    return _Found(places, dict(zip(files, keys, strict=True)))


def _share(dataset: Shown, share: RankShare) -> Iterable[int]:
    """Items of one process's share; those that show the same images go to one."""
    if share.world == 1:
        return range(len(dataset))
    known: Sequence[str | None] = getattr(dataset, "image_keys", None) or [None] * len(dataset)
    number = {key: k for k, key in enumerate(dict.fromkeys(known)) if key is not None}
    return [i for i, key in enumerate(known) if number.get(key or "", i) % share.world == share.rank]


def _conversation(item: Conversation | Preference) -> Conversation:
    return item.chosen if isinstance(item, Preference) else item


def _key(shown: Conversation, store: FeatureStore) -> str:
    try:
        return store.key(shown.images[0])
    except (OSError, ValueError):
        load_images(shown)  # says what is wrong, and with which record
        raise


def processed_images(
    processor: ProcessorMixin,
    images: Mapping[str, Conversation],
    keys: Sequence[str] | None = None,
    *,
    together: int,
    workers: int,
) -> Iterator[list[ProcessedImage]]:
    """What the processor makes of images, so many at a time: of these keys, or of all.

    Raises:
        RecordError: an image cannot be used.
    """
    seen = _ProcessedImages(processor, images, list(images) if keys is None else keys)
    for batch in DataLoader(seen, batch_size=together, num_workers=workers, collate_fn=list):
        yield [raised(image) for image in batch]


class _ProcessedImages(Dataset["ProcessedImage | RecordError"]):
    def __init__(self, processor: ProcessorMixin, images: Mapping[str, Conversation], keys: Sequence[str]) -> None:
        self.processor, self.images, self.keys = processor, images, keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> ProcessedImage | RecordError:
        key = self.keys[index]
        try:
            return process_image(self.processor, key, self.images[key])
        except RecordError as error:
            return error


def process_image(processor: ProcessorMixin, key: str, shown: Conversation) -> ProcessedImage:
    """What the processor makes of a conversation's one image.

    Raises:
        RecordError: the image cannot be used.
    """
    observed = Observed(processor)
    output = processed(observed.processor, [str(observed.processor.image_token)], [load_images(shown)], [shown])
    return ProcessedImage(key=key, image=observed.stored(), inputs=observed.inputs(output))
