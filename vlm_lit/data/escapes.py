"""How does text that people typed stay text, even where it spells a control token?

Control strings inside what people say (`<image>`, `<|im_end|>`) are replaced by private characters before a template is
rendered, and put back after tokenization as ordinary text. So content can never become a control token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vlm_lit.schema import ImageSlot, Turn

Span = tuple[int, int]

# A private use area: characters that no text, and no vocabulary, gives a meaning to.
_PRIVATE: Final = range(0xE000, 0xF8FF)


def any_of(strings: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the strings, longer ones before those they begin with."""
    ordered = sorted({name for name in strings if name}, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, ordered)))


def escape(turns: Sequence[Turn], control: re.Pattern[str]) -> tuple[list[Turn], dict[str, str]]:
    """Put a private character for every control string that was typed; which stands for what is the second value."""
    said = "".join(turn.text for turn in turns)
    if not control.search(said):
        return list(turns), {}
    free = (chr(code) for code in _PRIVATE if chr(code) not in said)
    names: dict[str, str] = {}

    def private(match: re.Match[str]) -> str:
        return names.setdefault(match.group(), next(free))

    escaped = [
        replace(
            turn,
            content=tuple(p if isinstance(p, ImageSlot) else control.sub(private, p) for p in turn.content),
        )
        for turn in turns
    ]
    return escaped, {character: typed for typed, character in names.items()}


def restore(
    ids: Tensor, offsets: Sequence[Span], typed_at: Mapping[Span, str], tokenizer: PreTrainedTokenizerBase
) -> tuple[Tensor, list[int]]:
    """Put the typed control strings back, as ordinary text, where their private characters stand.

    Args:
        ids: token ids [T].
        offsets: the characters that each of the T tokens stands for.
        typed_at: the characters that stand for typed strings, and what was typed there.
        tokenizer: what makes token ids of the typed strings.

    Returns:
        The new token ids [N], and for each of them the old position whose other fields it takes.
    """
    keep: list[int] = []
    new_ids: list[int] = []
    done: set[Span] = set()
    for i, (start, end) in enumerate(offsets):
        covered = sorted(span for span in typed_at if span[0] < end and start < span[1])
        fresh = [span for span in covered if span not in done]
        done.update(fresh)
        new = [token for span in fresh for token in literal_ids(typed_at[span], tokenizer)]
        new_ids += new if covered else [int(ids[i])]
        keep += [i] * (len(new) if covered else 1)
    return torch.tensor(new_ids, dtype=ids.dtype), keep


def literal_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of `text` as ordinary text: none of them is a control token, whatever it says."""
    ids = list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
    control = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
    if len(text) > 1 and any(i in control for i in ids):
        # Added tokens that are not flagged special survive `split_special_tokens`; one character never is one.
        half = len(text) // 2
        return literal_ids(text[:half], tokenizer) + literal_ids(text[half:], tokenizer)
    return ids
