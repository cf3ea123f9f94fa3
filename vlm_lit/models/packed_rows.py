"""KV cache of prompts: several questions continue from the prefix they share, computed once.

Packed rows (`models/attention.py`) run through the model once and leave their keys and values behind. What is said in
answer to any of their questions is then appended to its row, marked with the question's segment: it sees the prefix,
its own question and what it follows. So an image's keys and values are never copied for its questions. A row of one
question, which a family that cannot be packed has, is all prefix.

B = rows, L = tokens of a row, K = keys of a row so far, N = questions, n = questions that go on, S = most of them in
one row, T = tokens appended to each, I = images, P = tiles of each, D = width. `positions` are [...] for a family that
counts along the row and [4, ...] for one with multimodal positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Final

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from vlm_lit.models.attention import addable, packed_inputs
from vlm_lit.models.families import Family
from vlm_lit.models.grouped_attention import grouped, heads_per_key
from vlm_lit.models.growing_cache import growing_cache, join, stacked

CROSSED: Final = "cross_attention_mask"
NOBODY: Final = -1
"""The owner of padding: no question sees it."""


@dataclass
class PrefixReader:
    """What the model remembers of packed rows, and where their questions stand.

    Args:
        backbone: the model without its head.
        cache: keys and values of the rows, K tokens each.
        owners: whose each key is [B, K]: 0 for the prefix, a segment, or NOBODY.
        kept: the rows' numbers; those no longer needed are forgotten.
        rows, segments: each question's row, and the segment that is its own [N].
        positions: of the first token behind each question [N] or [4, N].
        hidden: the last hidden state of each question's last token [N, D].
        window: how many tokens the layers see that do not see the whole row; None where all layers do.
        crossed: which tiles of its images each row attends to [B, I, P], in a family with cross-attention.
    """

    backbone: nn.Module
    cache: Cache
    owners: Tensor
    kept: list[int]
    rows: list[int]
    segments: Tensor
    positions: Tensor
    hidden: Tensor
    window: int | None = None
    crossed: Tensor | None = None

    def append(self, questions: Sequence[int], tokens: Tensor, depths: Tensor, sees: Tensor) -> Tensor:
        """Append tokens to some questions and return their last hidden states [n, T, D].

        Args:
            questions: n of the N questions, in their order.
            tokens: what is appended to each [n, T].
            depths: how many places behind the question each stands, [T] or, where questions differ, [n, T].
            sees: which of the T sees which [T, T] (bool), each itself among them.
        """
        self._forget_all_but(questions)
        row, slot = self._cells(questions)
        B, S, T = len(self.kept), int(slot.max()) + 1, tokens.shape[1]
        said, owners = tokens.new_zeros(B, S, T), tokens.new_full((B, S, T), NOBODY)
        said[row, slot], owners[row, slot] = tokens, self.segments[list(questions), None]
        places = self.positions[..., list(questions), None] + depths
        positions = places.new_zeros(*places.shape[:-2], B, S, T)
        positions[..., row, slot, :] = places
        among = torch.kron(torch.eye(S, dtype=torch.bool, device=sees.device), sees)
        hidden = self._forward(said.flatten(1), owners.flatten(1), positions.flatten(-2), among)
        return hidden.view(B, S, T, -1)[row, slot]

    def joined(self, questions: Sequence[int], other: PrefixReader) -> PrefixReader:
        """A reader of some of its questions and, behind them, all of another's; both it and the other are used up.

        What only other questions have said is forgotten.
        """
        self._forget_all_but(questions)
        picked = list(questions)
        row, _ = self._cells(questions)
        places = _needed_places(self.owners, row.to(self.owners.device), self.segments[picked])
        owners = [self.owners.gather(1, places.clamp(min=0)).masked_fill(places < 0, NOBODY), other.owners]
        join(self.cache, places.clamp(min=0), other.cache)
        length = max(part.shape[1] for part in owners)
        return PrefixReader(
            backbone=self.backbone,
            cache=self.cache,
            owners=torch.cat([nn.functional.pad(o, (0, length - o.shape[1]), value=NOBODY) for o in owners]),
            kept=list(range(len(self.kept) + len(other.kept))),
            rows=row.tolist() + [len(self.kept) + other.kept.index(r) for r in other.rows],
            segments=torch.cat([self.segments[picked], other.segments]),
            positions=torch.cat([self.positions[..., picked], other.positions], -1),
            hidden=torch.cat([self.hidden[picked], other.hidden]),
            window=self.window,
            crossed=stacked(self.crossed, len(self.kept), other.crossed, len(other.kept)),
        )

    def crop(self, length: int) -> None:
        """Forget what was appended behind the rows' first `length` tokens."""
        self.cache.crop(length - self.owners.shape[1])
        self.owners = self.owners[:, :length]

    def _forward(self, tokens: Tensor, owners: Tensor, positions: Tensor, among: Tensor) -> Tensor:
        """Hidden states [B, S T, D] of tokens and their owners [B, S T], at positions [..., B, S T].

        `among` [S T, S T] says which of the appended tokens see which.
        """
        earlier = (self.owners[:, None] == 0) | (self.owners[:, None] == owners[:, :, None])
        seen = torch.cat([earlier, among.expand(len(tokens), -1, -1)], 2)[:, None]
        self.owners = torch.cat([self.owners, owners], 1)
        more: dict[str, Tensor | Cache] = {cache_argument(self.backbone): self.cache}
        heads = heads_per_key(self.backbone)
        if self.crossed is not None:
            heads = 1  # the mask of images, which the model makes itself, is not repeated
            more[CROSSED] = self.crossed[:, None].expand(-1, tokens.shape[1], -1, -1)
        with grouped(self.backbone) if heads > 1 else nullcontext():
            hidden: Tensor = self.backbone(
                input_ids=tokens,
                attention_mask=self._masks(seen, heads),
                position_ids=positions,
                use_cache=True,
                **more,
            ).last_hidden_state
        return hidden

    def _masks(self, seen: Tensor, heads: int) -> Tensor | dict[str, Tensor]:
        """The masks of who is seen [B, 1, S T, K + S T] (bool), for each of so many heads one behind the other."""
        whole = addable(seen.repeat(1, 1, heads, 1), self.backbone)
        if self.window is None:
            return whole
        # Those that a token sees are its row up to itself, so the last of them are the nearest.
        near = seen & (seen.flip(-1).cumsum(-1).flip(-1) <= self.window)
        return {"full_attention": whole, "sliding_attention": addable(near.repeat(1, 1, heads, 1), self.backbone)}

    def _forget_all_but(self, questions: Sequence[int]) -> None:
        needed = sorted({self.rows[q] for q in questions})
        if needed != self.kept:
            index = torch.tensor([self.kept.index(row) for row in needed], device=self.owners.device)
            self.owners = self.owners[index]
            self.crossed = None if self.crossed is None else self.crossed[index]
            self.cache.batch_select_indices(index)
            self.kept = needed

    def _cells(self, questions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Among the kept rows each question's, and how many of the questions stand before it in that row [n]."""
        rows = [self.rows[q] for q in questions]
        slots = [i - rows.index(row) for i, row in enumerate(rows)]
        return torch.tensor([self.kept.index(row) for row in rows]), torch.tensor(slots)


def _needed_places(owners: Tensor, rows: Tensor, segments: Tensor) -> Tensor:
    """The places of each row's prefix and of some questions' tokens, in their order [B, most of a row]; -1 pads.

    Args:
        owners: whose each key is [B, K].
        rows, segments: where the questions are [n].
    """
    own = (owners[rows] == segments[:, None]).to(torch.int32)
    needed = (owners == 0) | (torch.zeros_like(owners, dtype=torch.int32).index_add_(0, rows, own) > 0)
    first = torch.argsort(~needed, dim=1, stable=True)[:, : int(needed.sum(1).max())]
    return torch.where(needed.gather(1, first), first, -1)


def cache_argument(backbone: nn.Module) -> str:
    """The name under which a model takes its KV cache: `cache` since transformers 5.24, `past_key_values` before."""
    return "cache" if "cache" in signature(backbone.forward).parameters else "past_key_values"


def read(base: PreTrainedModel, inputs: Mapping[str, Tensor], segments: Tensor, family: Family) -> PrefixReader:
    """Run packed prompts through the model: each image once, and each prefix once.

    Args:
        base: the model, without its PEFT shell.
        inputs: right-padded, `input_ids` and `attention_mask` [B, L] among them.
        segments: whose each token is [B, L]; a row without any segment asks one question.
        family: how positions are counted.
    """
    backbone, cache = family.backbone_of(base), growing_cache()
    packed = packed_inputs(backbone, inputs, segments, family)
    hidden = backbone(**packed, use_cache=True, **{cache_argument(backbone): cache}).last_hidden_state
    owners = torch.where(inputs["attention_mask"].bool(), segments, NOBODY)
    places = [(b, s) for b, most in enumerate(segments.amax(1).tolist()) for s in range(1, max(most, 1) + 1)]
    rows, own = torch.tensor(places, device=segments.device).unbind(1)
    # The last token of the question's segment, or of the prefix where that is all there is.
    along = torch.arange(owners.shape[1], device=segments.device)
    ends = torch.where((owners[rows] == 0) | (owners[rows] == own[:, None]), along, -1).amax(1)
    positions = packed["position_ids"].expand(*packed["position_ids"].shape[:-2], *owners.shape)
    return PrefixReader(
        backbone=backbone,
        cache=cache,
        owners=owners,
        kept=list(range(len(owners))),
        rows=rows.tolist(),
        segments=own,
        positions=positions[..., rows, ends] + 1,
        hidden=hidden[rows, ends],
    )
