"""Which prompts are answered together? Neighbours in the file, those about the same images not parted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby

from torch.utils.data import Dataset

from vlm_lit.schema import Conversation


class PromptWindows(Dataset[list[Conversation]]):
    """The conversations of a data set, a window at a time.

    Args:
        conversations: what to ask.
        windows: the positions in each window.
    """

    def __init__(self, conversations: Dataset[Conversation], windows: Sequence[Sequence[int]]) -> None:
        self.conversations, self.windows = conversations, windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> list[Conversation]:
        return [self.conversations[i] for i in self.windows[index]]


def prompt_windows(
    n: int, keys: Sequence[Hashable | None] | None, most: int, *, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """This rank's positions in windows of at most `most`, in the file's order.

    Args:
        n: conversations in the data set.
        keys: what each of them shows; None where that is not known. Neighbours that show the same go to one rank and
            into one window, unless they are more than fit any.
        most: longest window.
        rank, world: this process among all; each conversation belongs to one of them.
    """
    # Where nobody knows what a conversation shows, its neighbours are not known to show the same.
    shown = [(i, None) if keys is None or keys[i] is None else (None, keys[i]) for i in range(n)]
    together = [list(run) for _, run in groupby(range(n), key=lambda i: shown[i])]
    pieces = [run[at : at + most] for run in together for at in range(0, len(run), most)]
    windows: list[list[int]] = []
    for piece in pieces[rank::world]:
        if not windows or len(windows[-1]) + len(piece) > most:
            windows.append([])
        windows[-1] += piece
    return windows
