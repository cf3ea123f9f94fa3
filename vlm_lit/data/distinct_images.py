"""The distinct images of data sets, and what a processor makes of each of them alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import ProcessorMixin

from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.features.stored_images import Observed, StoredImage
from vlm_lit.data.images.images import load_images
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


def distinct_images(datasets: Iterable[Shown], store: FeatureStore) -> dict[str, Conversation]:
    """Each distinct image's key, with a conversation that shows it and no other. Every image file is read once.

    Raises:
        RecordError: an image cannot be read.
    """
    alone: dict[Path | str, Conversation] = {}
    for dataset in datasets:
        for i in range(len(dataset)):
            item = dataset[i]
            conversation = item.chosen if isinstance(item, Preference) else item
            for ref in conversation.images:
                shown = replace(conversation, images=(ref,))
                alone.setdefault(ref.path if ref.path is not None else _key(shown, store), shown)
    with ThreadPoolExecutor(_READERS) as readers:
        keys = list(readers.map(lambda shown: _key(shown, store), alone.values()))
    return dict(zip(keys, alone.values(), strict=True))


def _key(shown: Conversation, store: FeatureStore) -> str:
    try:
        return store.key(shown.images[0])
    except (OSError, ValueError):
        load_images(shown)  # says what is wrong, and with which record
        raise


def processed_images(
    processor: ProcessorMixin, images: Mapping[str, Conversation], *, together: int, workers: int
) -> Iterator[list[ProcessedImage]]:
    """What the processor makes of each image, so many at a time.

    Raises:
        RecordError: an image cannot be used.
    """
    seen = _ProcessedImages(processor, list(images.items()))
    for batch in DataLoader(seen, batch_size=together, num_workers=workers, collate_fn=list):
        yield [raised(image) for image in batch]


class _ProcessedImages(Dataset["ProcessedImage | RecordError"]):
    def __init__(self, processor: ProcessorMixin, images: Sequence[tuple[str, Conversation]]) -> None:
        self.processor, self.images = processor, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> ProcessedImage | RecordError:
        key, shown = self.images[index]
        try:
            return process_image(self.processor, key, shown)
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
