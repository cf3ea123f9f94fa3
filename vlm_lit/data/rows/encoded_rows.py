"""Encoded rows: one conversation's tokens before padding, and rows padded into a batch. B = rows, L = tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vlm_lit.data.rows.exact_tokens import Tokens
from vlm_lit.schema import IGNORE_INDEX, TokenBatch

Side = Literal["left", "right"]


@dataclass
class EncodedRow:
    """One conversation's T tokens before padding, each field [T, ...]."""

    fields: dict[str, Tensor]
    supervised: list[bool]

    def __len__(self) -> int:
        return len(self.supervised)

    def of(self, tokens: Tokens, supervised: list[bool]) -> EncodedRow:
        """The row with other tokens, each with the other fields of the token that it stands for."""
        ids = torch.tensor(tokens.ids, dtype=self.fields["input_ids"].dtype)
        return EncodedRow(
            {name: value[tokens.source] for name, value in self.fields.items()} | {"input_ids": ids}, supervised
        )


def assembled(
    rows: Sequence[EncodedRow], rest: dict[str, Tensor], ids: list[str], tokenizer: PreTrainedTokenizerBase, side: Side
) -> TokenBatch:
    """Rows padded into one batch [B, L], labels set where they are supervised.

    Args:
        rows: B rows of T tokens each, their fields [T, ...].
        rest: the fields that do not run along the tokens, [N, ...] for N images, tiles or patches.
        ids: the conversations' ids, row by row.
        tokenizer: says what pads.
        side: where padding goes.
    """
    labels = [torch.where(torch.tensor(row.supervised), row.fields["input_ids"], IGNORE_INDEX) for row in rows]
    fills = dict.fromkeys(rows[0].fields, 0) | {"input_ids": int(tokenizer.pad_token_id)}
    inputs = {name: padded([row.fields[name] for row in rows], fill, side) for name, fill in fills.items()}
    labels_BL = padded(labels, IGNORE_INDEX, side)
    return TokenBatch(inputs=inputs | rest, labels=labels_BL, ids=ids, lengths=[len(row) for row in rows])


def padded(values: Sequence[Tensor], fill: int, side: Side) -> Tensor:
    """Tensors [T_i, ...] as one [B, max T_i, ...], filled up on the other side."""
    longest = max(len(value) for value in values)
    filled = values[0].new_full((len(values), longest, *values[0].shape[1:]), fill)
    for row, value in zip(filled, values, strict=True):
        target = row[: len(value)] if side == "right" else row[longest - len(value) :]
        target.copy_(value)
    return filled
