"""Data set of items made from records, by index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Generic, TypeVar

from torch.utils.data import Dataset

from vlm_lit.data.dealing import ItemSize
from vlm_lit.data.mixture import Mixture
from vlm_lit.data.of_step import OfStep, step_of
from vlm_lit.data.records.bad_records import BadRecord
from vlm_lit.data.records.findings import Findings
from vlm_lit.data.records.record_sequences import ChosenRecords
from vlm_lit.data.rows.packing import image_key
from vlm_lit.schema import DataItem, Record

Item = TypeVar("Item", bound=DataItem)


class RecordDataset(Dataset[Item], Generic[Item]):
    """Items by index, made from their records when asked for.

    Args:
        records: the rows.
        read: makes a row's item.
        name: how messages call the source.
    """

    def __init__(self, records: Sequence[Record], read: Callable[[Record], Item], *, name: str) -> None:
        self.records, self.read, self.name = records, read, name
        self.image_keys: list[str | None] | None = None
        """What names each item's images, once every record has been looked at."""
        self.sizes: list[ItemSize] | None = None
        """How long each item is, where all records were looked at closely enough to tell."""
        self.ids: list[str] | None = None
        """Each item's id, from then on."""
        self.most_images: int | None = None
        """How many images the item has that has most of them, from then on."""
        self.findings = Findings(source=name)
        """What its records have that is not used, once they have been looked at."""
        self.mixture: Mixture | None = None
        """How often an epoch visits each of several sources, where that is not said by their sizes."""
        self.renamed: dict[int, str] = {}
        """New ids for records that repeat one."""
        self.skipped: Sequence[BadRecord] = ()
        """Records of the source that cannot be used and were left out."""

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Item:
        item = self.read(self.records[index])
        new = self.renamed.get(index if index >= 0 else index + len(self))
        return item if new is None else replace(item, id=new)

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """The items of a batch, as a loader asks for them; they know the step that the indices are of."""
        return OfStep((self[i] for i in indices), step_of(indices))

    def keep(self, kept: Sequence[int]) -> None:
        """Leave out all items but these, and forget what is known of the others.

        Args:
            kept: which, in ascending order.
        """
        if self.mixture is not None:
            ends = [0, *accumulate(self.mixture.sizes)]
            sizes = tuple(sum(begin <= i < end for i in kept) for begin, end in pairwise(ends))
            self.mixture = replace(self.mixture, sizes=sizes)
        self.renamed = {new: self.renamed[old] for new, old in enumerate(kept) if old in self.renamed}
        self.records = ChosenRecords(self.records, kept)
        self.image_keys = None if self.image_keys is None else [self.image_keys[i] for i in kept]
        self.ids = None if self.ids is None else [self.ids[i] for i in kept]
        self.sizes = None if self.sizes is None else [self.sizes[i] for i in kept]

    def looked_at(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items, all of the data set's in order, noting what later stages ask for."""
        keys, ids, most = list[str | None](), list[str](), 0
        for item in items:
            keys.append(image_key(item))
            ids.append(item.id)
            most = max(most, len(item.images))
            yield item
        self.image_keys, self.ids, self.most_images = keys, ids, most
