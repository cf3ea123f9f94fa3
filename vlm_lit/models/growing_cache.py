"""KV cache that keeps room behind its last token, so that an appended token does not copy all that stand before it.

B = rows, H = heads, K = tokens of a row, P = patches of its images, D = width of a head.
"""

from __future__ import annotations

from collections.abc import Collection
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
            self._room = _roomier(self.keys, _sized(after)), _roomier(self.values, _sized(after))
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[..., before:after, :] = new
        self.keys, self.values = (room[..., :after, :] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows alone."""
        super().batch_select_indices(indices)
        self._room = None

    def join(self, places_BK: Tensor, other: DynamicLayer) -> None:
        """Keep these places of each row alone, and put another layer's rows behind; short ones end in zeros."""
        length = max(places_BK.shape[1], int(other.get_seq_length()))
        pairs = (self.keys, other.keys), (self.values, other.values)
        keys, values = (_joined(mine, places_BK, theirs, _sized(length)) for mine, theirs in pairs)
        self._room = keys, values
        self.keys, self.values = (room[..., :length, :] for room in self._room)


class CrossLayer(DynamicLayer):  # type: ignore[misc]
    """A cross-attention layer's keys and values [B, H, P, D]: what its rows' images are, whatever is said of them.

    Nothing is in it where a batch has no image; the model leaves the layer out then.
    """

    def crop(self, tokens_to_remove: int) -> None:
        """Forget nothing: words alone are forgotten."""

    def join(self, rows: int, other: DynamicLayer, others: int) -> None:
        """Put another layer's rows behind.

        Args:
            rows, others: how many rows there are in both; a layer with nothing in it does not say.
            other: the layer whose rows these are.
        """
        keys, values = (stacked(getattr(self, name), rows, getattr(other, name), others) for name in ("keys", "values"))
        if keys is None or values is None:
            return
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values


def growing_cache(layers: int = 0, crossing: Collection[int] = ()) -> Cache:
    """An empty cache.

    Args:
        layers: how many there are, where some attend to images alone.
        crossing: the numbers of those; none where there is any number of layers that attend to words.
    """
    if not crossing:
        return Cache(layer_class_to_replicate=GrowingLayer)
    return Cache(layers=[CrossLayer() if number in crossing else GrowingLayer() for number in range(layers)])


def join(cache: Cache, places_BK: Tensor, other: Cache) -> None:
    """Keep these places of each of a cache's rows alone, and move another cache's rows behind them."""
    (others,) = {len(layer.keys) for layer in other.layers if isinstance(layer, GrowingLayer)}
    for layer in cache.layers:
        given = other.layers.pop(0)  # so that one layer at a time is there twice
        if isinstance(layer, CrossLayer):
            layer.join(len(places_BK), given, others)
        else:
            assert isinstance(layer, GrowingLayer)
            layer.join(places_BK, given)


def _sized(length: int) -> int:
    return length + max(_LEAST, length // _SHARE)


def _joined(mine: Tensor, places_BK: Tensor, theirs: Tensor, size: int) -> Tensor:
    rows, (heads, length, width) = len(mine), theirs.shape[1:]
    # Zeros and not what memory holds by chance: a hidden NaN would be one in the sum over all keys.
    made = mine.new_zeros(rows + len(theirs), heads, size, width)
    index = places_BK[:, None, :, None].expand(-1, heads, -1, width)
    made[:rows, :, : places_BK.shape[1]] = mine.gather(2, index)
    made[rows:, :, :length] = theirs
    return made


def _roomier(held: Tensor, size: int) -> Tensor:
    made = held.new_empty(*held.shape[:-2], size, held.shape[-1])
    made[..., : held.shape[-2], :] = held
    return made


def stacked(mine: Tensor | None, rows: int, theirs: Tensor | None, others: int) -> Tensor | None:
    """Some rows and others behind them [B, ...]: what is shorter ends in zeros, what is None is zeros; None of both."""
    given = [part for part in (mine, theirs) if part is not None]
    if not given:
        return None
    sizes = [max(part.shape[at] for part in given) for at in range(1, given[0].dim())]
    made = given[0].new_zeros(rows + others, *sizes)
    for part, begin in ((mine, 0), (theirs, rows)):
        if part is not None:
            made[(slice(begin, begin + len(part)), *map(slice, part.shape[1:]))] = part
    return made
