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


def prompt_windows(positions: Sequence[int], keys: Sequence[Hashable | None] | None, most: int) -> list[list[int]]:
    """Positions in windows of at most `most`, in their order.

    Args:
        positions: which conversations, in the order they are asked in.
        keys: what each conversation of the data set shows; None where that is not known. Neighbours that show the same
            are in one window, unless they are more than fit any.
        most: longest window.
    """
    windows: list[list[int]] = []
    for key, run in groupby(positions, key=lambda i: None if keys is None else keys[i]):
        together = list(run)
        size = 1 if key is None else most
        for piece in (together[at : at + size] for at in range(0, len(together), size)):
            if not windows or len(windows[-1]) + len(piece) > most:
                windows.append([])
            windows[-1] += piece
    return windows
