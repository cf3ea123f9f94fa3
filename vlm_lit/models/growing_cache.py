"""KV cache that keeps room behind its last token, so that an appended token does not copy all that stand before it."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

_SHARE: Final = 8  # of its length it grows by an eighth
_LEAST: Final = 32  # tokens that it grows by at least


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values [B, H, K, D], the first K places of tensors that have room for more.

    transformers' own layer joins what it has and what is new at every step, which copies the whole cache.
    """

    def __init__(self) -> None:
        super().__init__()
        self._room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - transformers'
        """Append keys and values [B, H, T, D], and return all [B, H, K + T, D]."""
        before = int(self.get_seq_length())
        if before == 0:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        after = before + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < after:
            size = after + max(_LEAST, after // _SHARE)
            self._room = _roomier(self.keys, size), _roomier(self.values, size)
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[..., before:after, :] = new
        self.keys, self.values = (room[..., :after, :] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows alone."""
        super().batch_select_indices(indices)
        self._room = None


def growing_cache() -> Cache:
    """An empty cache for any number of layers."""
    return Cache(layer_class_to_replicate=GrowingLayer)


def _roomier(held: Tensor, size: int) -> Tensor:
    made = held.new_empty(*held.shape[:-2], size, held.shape[-1])
    made[..., : held.shape[-2], :] = held
    return made
