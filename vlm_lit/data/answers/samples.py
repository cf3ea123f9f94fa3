"""Questions that are asked several times each, for answers that are drawn."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import replace

from torch.utils.data import Dataset

from vlm_lit.data.answers.evaluation_batches import EvaluatedItems
from vlm_lit.schema import Conversation


def sample_name(record: str, number: int) -> str:
    """What names the answer `number`, counted from 0, to a record's question: what its draws follow from."""
    return f"{record}#{number}"


class SampledItems(Dataset[Conversation]):
    """What an evaluation asks, every question as often as answers to it are wanted, one behind the other.

    Each is an item of its own, named by `sample_name`; those of one question share a row where the model allows it.

    Args:
        items: what is asked.
        samples: how many answers each question gets.
        ids: the items' ids.
        there: names of answers that are there already, and not asked for again.
    """

    def __init__(
        self, items: EvaluatedItems[Conversation], samples: int, ids: Sequence[str], there: Collection[str] = ()
    ) -> None:
        self.items = items
        every = ((i, number) for i in range(len(items)) for number in range(samples))
        self.places = [(i, number) for i, number in every if sample_name(ids[i], number) not in there]
        keys: Sequence[Hashable | None] | None = items.image_keys
        self.image_keys = None if keys is None else [keys[i] for i, _ in self.places]
        """What names the images that each item shows."""
        sizes = items.sizes
        self.sizes = None if sizes is None else [sizes[i] for i, _ in self.places]
        """How long each item is."""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Conversation:
        place, number = self.places[index]
        found = self.items[place]
        return replace(found, id=sample_name(found.id, number))
