"""Grouping of prompts that are answered together: neighbours in the file, those of one image not parted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby

from torch.utils.data import Dataset

from vlm_lit.schema import Conversation


class EvaluationBatches(Dataset[list[Conversation]]):
    """The conversations of a data set, a batch at a time.

    Args:
        conversations: what to ask.
        batches: the positions in each batch.
    """

    def __init__(self, conversations: Dataset[Conversation], batches: Sequence[Sequence[int]]) -> None:
        self.conversations, self.batches = conversations, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Conversation]:
        return [self.conversations[i] for i in self.batches[index]]


def evaluation_batches(
    n: int, keys: Sequence[Hashable | None] | None, most: int, *, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """This rank's positions in batches of at most `most`, in the file's order.

    Args:
        n: conversations in the data set.
        keys: what each of them shows; None where that is not known. Neighbours that show the same go to one rank and
            into one batch, unless they are more than fit any.
        most: longest batch.
        rank, world: this process among all; each conversation belongs to one of them.
    """
    # Where nobody knows what a conversation shows, its neighbours are not known to show the same.
    shown = [(i, None) if keys is None or keys[i] is None else (None, keys[i]) for i in range(n)]
    together = [list(run) for _, run in groupby(range(n), key=lambda i: shown[i])]
    pieces = [run[at : at + most] for run in together for at in range(0, len(run), most)]
    batches: list[list[int]] = []
    for piece in pieces[rank::world]:
        if not batches or len(batches[-1]) + len(piece) > most:
            batches.append([])
        batches[-1] += piece
    return batches
