"""Grouping of prompts that are answered together: neighbours in the file, those of one image not parted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby
from typing import Protocol, TypeVar

from torch.utils.data import Dataset

Item = TypeVar("Item")
ItemOut = TypeVar("ItemOut", covariant=True)


class EvaluatedItems(Protocol[ItemOut]):
    """What an evaluation asks, in the file's order."""

    @property
    def image_keys(self) -> Sequence[Hashable | None] | None:
        """What names the images that each item shows; None where that is not known."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> ItemOut: ...


class EvaluationBatches(Dataset[list[Item]]):
    """The items of an evaluation, a batch at a time.

    Args:
        items: what to ask.
        batches: the positions in each batch.
    """

    def __init__(self, items: EvaluatedItems[Item], batches: Sequence[Sequence[int]]) -> None:
        self.items, self.batches = items, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Item]:
        return [self.items[i] for i in self.batches[index]]


def evaluation_batches(
    n: int, keys: Sequence[Hashable | None] | None, most: int, *, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """This rank's positions in batches of at most `most`, in the file's order.

    Args:
        n: items in the data set.
        keys: what each of them shows; None where that is not known. Neighbours that show the same go to one rank and
            into one batch, unless they are more than fit any.
        most: longest batch.
        rank, world: this process among all; each item belongs to one of them.
    """
    # Where nobody knows what an item shows, its neighbours are not known to show the same.
    shown = [(i, None) if keys is None or keys[i] is None else (None, keys[i]) for i in range(n)]
    together = [list(run) for _, run in groupby(range(n), key=lambda i: shown[i])]
    pieces = [run[at : at + most] for run in together for at in range(0, len(run), most)]
    batches: list[list[int]] = []
    for piece in pieces[rank::world]:
        if not batches or len(batches[-1]) + len(piece) > most:
            batches.append([])
        batches[-1] += piece
    return batches
