"""Last decoder layer computed only where it is read.

A loss reads the last hidden states of the positions whose next token is supervised, which are few. Of the last layer
they need the keys and values of all positions, and the rest (queries, attention, feed-forward block, the norm behind
it) at their own places alone. Decoding asks the same of a layer with a KV cache, so the layer's own code is run as
decoding runs it, twice: over the whole row until it has keys and values, and over the places that are read, with those
in the cache. So it holds for every layer that can decode, whatever its norms, rotary positions or scalings are; only
the query projection of the whole row is computed in vain.

The whole layer is computed where dropout acts in it, whose draws would be others; where attention is neither `sdpa` nor
`eager`; where the layer is given what is unknown here, or asks more of its cache than to hold keys and values.

B = rows, L = tokens of a row, S = the most places of a row that are read, D = hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from vlm_lit.models.class_before import class_before
from vlm_lit.models.families import Family
from vlm_lit.models.packed_rows import cache_argument
from vlm_lit.models.plain_layers import put_aside

_ALONG_ROWS: Final = ("attention_mask", "position_ids", "position_embeddings")
_UNREAD: Final = ("cross_attention_states", "cross_attention_mask", "full_text_row_masked_out_mask")
"""What Llama-3.2-Vision hands to all of its layers; those that attend to their own row leave it aside."""


class LastLayer(nn.Module):
    """A decoder layer whose output may be asked at some places of each row alone."""

    read_at: Tensor | None = None
    """The places [B, S] at which the next calls are read; None for the whole rows."""
    cache_name: str
    """The argument that takes a KV cache."""

    def __call__(self, *inputs: Any, **options: Any) -> Any:  # noqa: ANN401 - each layer's own
        """The layer's output, at the places that are read where that may be."""
        # Handed over as an argument: what is computed again in a backward pass is computed at the same places.
        if self.read_at is not None and len(inputs) == 1 and self._narrows(inputs[0], options):
            options["read_at"] = self.read_at
        return super().__call__(*inputs, **options)

    def forward(self, hidden: Tensor, *, read_at: Tensor | None = None, **options: Any) -> Any:  # noqa: ANN401 - as above
        """The hidden states [B, L, D] behind the layer, or [B, S, D] at the places [B, S]."""
        layer: Callable[..., Any] = super().forward
        if read_at is None:
            return layer(hidden, **options)
        keys = _KeysAndValues()
        try:
            layer(hidden, **{**options, self.cache_name: keys})
        except _Filled:
            narrowed = _narrowed(options, hidden, read_at)
            return layer(_taken(hidden, read_at), **{**narrowed, self.cache_name: keys})
        except _UnknownQuestion:
            pass
        return _taken(layer(hidden, **options), read_at)

    def _narrows(self, hidden: Tensor, options: Mapping[str, Any]) -> bool:
        """Whether a call's output [B, L, D] at some places follows from what is handled here."""
        attention: Any = self.self_attn
        mask, implementation = options.get("attention_mask"), attention.config._attn_implementation
        others = [value for name, value in options.items() if name not in (*_ALONG_ROWS, *_UNREAD)]
        seen = implementation == "sdpa" and getattr(attention, "is_causal", False)
        if isinstance(mask, Tensor):
            seen = implementation in ("sdpa", "eager") and mask.shape[2:] == (hidden.shape[1], hidden.shape[1])
        return (
            bool(seen)
            and not put_aside()
            and all(value is None or isinstance(value, bool | int | float | str) for value in others)
            and options.get(self.cache_name) is None
            and not drops(self)
        )


class _Filled(Exception):  # noqa: N818 - no error
    """The cache has its keys and values."""


class _UnknownQuestion(Exception):  # noqa: N818
    """A layer asks a cache for something else."""


class _KeysAndValues:
    """A KV cache that stops the layer once it has filled it, and gives back what it holds from then on."""

    def __init__(self) -> None:
        self.held: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """The keys and values that are held.

        Raises:
            _Filled: these are the first ones.
        """
        if self.held is None:
            self.held = keys, values
            raise _Filled
        return self.held

    def __getattr__(self, name: str) -> object:
        raise _UnknownQuestion(name)


def narrow_last_layer(model: nn.Module, family: Family) -> None:
    """Let a model's last decoder layer be asked at some places alone, if it attends to its own row and nothing is added
    to its output there."""
    layers = list(model.get_submodule(family.decoder_layers).children())
    fed = model.get_submodule(family.projector[-1]) if family.projected == "deepstack" else nn.ModuleList()
    last = layers[-1]
    if hasattr(last, "self_attn") and len(layers) > len(list(fed.children())):
        last.cache_name = cache_argument(last)  # type: ignore[assignment]
        last.__class__ = class_before(LastLayer, type(last))


@contextmanager
def read_at(model: nn.Module, family: Family, places: Tensor | None) -> Iterator[None]:
    """Forward passes whose last layer is read at some places [B, S] of its rows alone; None for all.

    What comes out is [B, S, D], or [B, L, D] where the whole layer had to be computed.
    """
    # A layer that trains in full is a copy that PEFT runs in its place.
    *_, last = model.get_submodule(family.decoder_layers).children()
    layers = [module for module in last.modules() if isinstance(module, LastLayer)]
    for layer in layers:
        layer.read_at = places
    try:
        yield
    finally:
        for layer in layers:
            layer.read_at = None


def _taken(along: Tensor, places: Tensor) -> Tensor:
    """Of [B or 1, L, ...] what stands at places [B, S]: [B, S, ...]."""
    rows = torch.arange(len(places), device=places.device)[:, None]
    return along.expand(len(places), *along.shape[1:])[rows, places]


def _narrowed(options: Mapping[str, Any], hidden: Tensor, places: Tensor) -> dict[str, Any]:
    """A call's options for the places [B, S] of its rows [B, L, D]."""
    made = dict(options)
    mask = options.get("attention_mask")
    if mask is None:  # causal, which a kernel takes for granted only where there are as many queries as keys
        made["attention_mask"] = torch.arange(hidden.shape[1], device=hidden.device) <= places[:, None, :, None]
    else:
        made["attention_mask"] = _taken(mask.transpose(1, 2), places).transpose(1, 2)
    if options.get("position_ids") is not None:
        made["position_ids"] = _taken(options["position_ids"], places)
    if options.get("position_embeddings") is not None:
        made["position_embeddings"] = tuple(_taken(part, places) for part in options["position_embeddings"])
    return made


def drops(layer: nn.Module) -> bool:
    """Whether dropout acts in a layer."""
    attention: Any = layer.self_attn
    own = any(getattr(attention, name, 0.0) for name in ("attention_dropout", "dropout"))
    return (attention.training and own) or any(
        isinstance(module, nn.Dropout) and module.training and module.p > 0 for module in layer.modules()
    )
