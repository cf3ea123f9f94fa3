"""Blind controls of an evaluation: each prompt with a grey image, with another item's image, or with none."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from typing import Final, Literal, Protocol, TypeVar

import torch
from PIL import Image
from torch.utils.data import Dataset

from vlm_lit.data.answers.judged_turns import TurnItems
from vlm_lit.data.dealing import ItemSize
from vlm_lit.data.images.images import load_images
from vlm_lit.data.records.conversation_dataset import ConversationDataset
from vlm_lit.data.rows.packing import image_key
from vlm_lit.data.sampler import derive_seed
from vlm_lit.errors import ConfigError
from vlm_lit.schema import Conversation, DataItem, EvaluationBatch, ImageRef, ImageSlot, Turn

Blind = Literal["blank", "shuffle", "drop"]

GREY: Final = (128, 128, 128)

Key = TypeVar("Key", bound=Hashable)
Asked = ConversationDataset | TurnItems | Sequence[Conversation]


@dataclass(frozen=True, kw_only=True)
class BlindConversation(Conversation):
    """A conversation with other images than its own, or with none. `own` are those it is about, not decoded."""

    own: tuple[ImageRef, ...]


class BlindPrompts(Dataset[Conversation]):
    """The conversations of a data set with other images or none; ids, references, groups and `image_id` are their own.

    Args:
        asked: the conversations as they are.
        kind: `blank` shows grey pictures of the same sizes, `shuffle` another conversation's images, `drop` none.
        seed: what `shuffle` follows from.

    Raises:
        ConfigError: there is no other image to show.
        RecordError: an image whose size is wanted cannot be read.
    """

    def __init__(self, asked: Asked, kind: Blind, *, seed: int) -> None:
        self.asked = asked
        self._control = _CONTROLS[kind](asked, seed)
        self.image_keys = self._control.image_keys
        """What names the images that each conversation is shown with."""
        self.sizes: list[ItemSize] | None = getattr(asked, "sizes", None)
        """How long each is with its own images."""

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, index: int) -> BlindConversation:
        conversation = self.asked[index]
        own = tuple(replace(ref, pixels=None) for ref in conversation.images)
        return BlindConversation(**vars(self._control.shown(index, conversation)), own=own)


def name_own_images(prompts: EvaluationBatch) -> EvaluationBatch:
    """Let a batch of prompts's conversations name again the images they are about, now that its pixels are made."""
    for batch in prompts.batches:
        batch.conversations = [
            replace(c, images=c.own) if isinstance(c, BlindConversation) else c for c in batch.conversations
        ]
    return prompts


def derangement(keys: Sequence[Key], seed: int) -> Mapping[Key, Key]:
    """Another key for each of two or more different ones, each used once: they stand in a ring of random order."""
    generator = torch.Generator().manual_seed(derive_seed("blind", seed))
    ring = [keys[i] for i in torch.randperm(len(keys), generator=generator).tolist()]
    return dict(zip(ring, [*ring[1:], ring[0]], strict=True))


class _Control(Protocol):
    image_keys: list[str | None]

    def shown(self, index: int, conversation: Conversation) -> Conversation: ...


class _Dropped:
    def __init__(self, asked: Asked, seed: int) -> None:
        self.image_keys: list[str | None] = [None] * len(asked)

    def shown(self, index: int, conversation: Conversation) -> Conversation:
        return replace(conversation, turns=tuple(map(_words_only, conversation.turns)), images=())


def _words_only(turn: Turn) -> Turn:
    # What stood on both sides of an image becomes one part: a template may put something between parts.
    return replace(turn, content=(turn.text,)) if any(isinstance(part, ImageSlot) for part in turn.content) else turn


class _Blank:
    """Sizes are looked up before anything is asked: in a worker, an unreadable image would end in a traceback."""

    def __init__(self, asked: Asked, seed: int) -> None:
        found: dict[str, Sequence[tuple[int, int]]] = {}
        self.sizes: list[Sequence[tuple[int, int]]] = []
        self.image_keys: list[str | None] = []
        for i in range(len(asked)):
            conversation = asked[i]
            key = image_key(conversation) or f"record {i}"
            if key not in found:
                found[key] = [image.size for image in load_images(conversation)]
            self.sizes.append(found[key])
            self.image_keys.append(image_key(self.shown(i, conversation)))

    def shown(self, index: int, conversation: Conversation) -> Conversation:
        return replace(conversation, images=tuple(ImageRef(data=grey(size)) for size in self.sizes[index]))


@lru_cache(maxsize=1024)
def grey(size: tuple[int, int]) -> bytes:
    """A grey picture of a size (width, height), as a PNG file's bytes."""
    file = BytesIO()
    Image.new("RGB", size, GREY).save(file, "PNG")
    return file.getvalue()


class _Shuffled:
    """All conversations about an image are shown the same other one, so they still share it."""

    def __init__(self, asked: Asked, seed: int) -> None:
        self.asked = asked
        self.donors, keys = other_images(
            asked, seed, "data.blind", "Set it to blank or drop, or ask about more images."
        )
        self.image_keys = [None if donor is None else keys[donor] for donor in self.donors]

    def shown(self, index: int, conversation: Conversation) -> Conversation:
        donor = self.donors[index]
        return conversation if donor is None else replace(conversation, images=self.asked[donor].images)


class Indexed(Protocol):
    """Items by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> DataItem: ...


def other_images(items: Indexed, seed: int, setting: str, remedy: str) -> tuple[list[int | None], list[str | None]]:
    """For each item another one that shows other images and as many, None where it shows none; and what each shows.

    All items about an image are given the same other one.

    Args:
        items: the items as they are.
        seed: what the choice follows from.
        setting: the setting that asks for it, and `remedy` what else to do, where there is no other image.

    Raises:
        ConfigError: there is no other image to show.
    """
    keys: list[str | None] = []
    counts: dict[int, dict[str, int]] = {}  # by number of images: each key and who has it first
    names: list[tuple[int, str] | None] = []
    for i in range(len(items)):
        item = items[i]
        keys.append(image_key(item))
        name = (len(item.images), keys[i] or f"record {i}") if item.images else None
        names.append(name)
        if name is not None:
            counts.setdefault(name[0], {}).setdefault(name[1], i)
    for count, first in counts.items():
        if len(first) == 1:
            those = "conversations with an image" if count == 1 else f"conversations with {count} images"
            raise ConfigError(
                f"{setting} is shuffle, but all {those} show the same, so there is no other to show. {remedy}"
            )
    others = {count: derangement(list(first), seed) for count, first in counts.items()}
    return [None if n is None else counts[n[0]][others[n[0]][n[1]]] for n in names], keys


_CONTROLS: Final[Mapping[Blind, Callable[[Asked, int], _Control]]] = {
    "blank": _Blank,
    "shuffle": _Shuffled,
    "drop": _Dropped,
}
