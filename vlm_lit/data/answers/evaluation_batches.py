"""Grouping of prompts that are answered together: those of one image, and beside them what is about as long."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby
from typing import Final, Protocol, TypeVar

from torch.utils.data import Dataset

from vlm_lit.data.dealing import ItemCost, ItemSize, dealt
from vlm_lit.data.grouping import grouped

Item = TypeVar("Item")
ItemOut = TypeVar("ItemOut", covariant=True)

ANSWERED: Final = 64
"""What an answer costs besides its prompt, in tokens of a prompt: it is generated one token at a time."""


class EvaluatedItems(Protocol[ItemOut]):
    """What an evaluation asks, in the file's order."""

    @property
    def image_keys(self) -> Sequence[Hashable | None] | None:
        """What names the images that each item shows; None where that is not known."""

    @property
    def sizes(self) -> Sequence[ItemSize] | None:
        """How long each item is; None where that is not known."""

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
    n: int,
    keys: Sequence[Hashable | None] | None,
    most: int,
    *,
    rank: int = 0,
    world: int = 1,
    costs: Sequence[ItemCost] | None = None,
) -> list[list[int]]:
    """This rank's positions in batches of at most `most`, in the file's order.

    Args:
        n: items in the data set.
        keys: what each of them shows; None where that is not known. Neighbours that show the same go to one rank and
            into one batch, unless they are more than fit any.
        most: longest batch.
        rank, world: this process among all; each item belongs to one of them.
        costs: what each item costs, by which ranks get about as much; None where that is not known.
    """
    # Where nobody knows what an item shows, its neighbours are not known to show the same.
    shown = [(i, None) if keys is None or keys[i] is None else (None, keys[i]) for i in range(n)]
    together = [list(run) for _, run in groupby(range(n), key=lambda i: shown[i])]
    pieces = [run[at : at + most] for run in together for at in range(0, len(run), most)]
    if world > 1:
        mine = dealt([_cost(piece, costs) for piece in pieces], world)[rank]
        pieces = [pieces[k] for k in mine]
    return _filled(pieces, most)


def arranged(
    batches: Sequence[Sequence[int]],
    keys: Sequence[Hashable | None] | None,
    most: int,
    costs: Sequence[ItemCost] | None = None,
) -> list[list[int]]:
    """The positions of one rank's batches, batched anew: wherever in the file they stand, not as neighbours alone.

    Those that show the same come together, so that their images are looked at once. Batches then hold what has as many
    images and is about as long, so that little is padded; the longest come first, so that too little memory shows at
    once.

    Args:
        batches: the rank's positions, as `evaluation_batches` has them.
        keys, most, costs: as there.
    """
    mine = [i for batch in batches for i in batch]
    alike = grouped(mine, [None if keys is None else keys[i] for i in mine])
    pieces = [group[at : at + most] for group in alike for at in range(0, len(group), most)]
    if costs is not None:
        pieces.sort(key=lambda piece: _images_and_length(piece, costs), reverse=True)  # equals stay in the file's order
    return _filled(pieces, most)


def _images_and_length(piece: Sequence[int], costs: Sequence[ItemCost]) -> tuple[int, int]:
    """How many images questions that show the same have, and the tokens of the row they share."""
    first = costs[piece[0]]
    return first.images, first.pictures + sum(costs[i].words for i in piece)


def _filled(pieces: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """Neighbouring pieces in batches of at most so many positions."""
    batches: list[list[int]] = []
    for piece in pieces:
        if not batches or len(batches[-1]) + len(piece) > most:
            batches.append([])
        batches[-1] += piece
    return batches


def _cost(piece: Sequence[int], costs: Sequence[ItemCost] | None) -> float:
    """What it costs to answer questions that show the same: their images are looked at once."""
    if costs is None:
        return len(piece)
    return costs[piece[0]].pictures + sum(costs[i].words + ANSWERED for i in piece)
