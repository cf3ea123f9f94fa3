"""Escaping of control strings in typed text, so that they are tokenized as ordinary text.

Control strings inside what people say (`<image>`, `<|im_end|>`) are replaced by private characters before a template is
rendered, and put back after tokenization as ordinary text. So content can never become a control token.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from typing import Final

from transformers import PreTrainedTokenizerBase

from vlm_lit.schema import ImageSlot, Turn

Span = tuple[int, int]

# Private use areas: characters that no text, and no vocabulary, gives a meaning to. The second is for texts that hold
# all of the first.
_PRIVATE: Final = range(0xE000, 0xF8FF)
_MORE_PRIVATE: Final = range(0xF0000, 0xFFFFD)


class NoCharacterLeftError(Exception):
    """A text that holds every private character."""


def any_of(strings: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the strings, longer ones before those they begin with."""
    ordered = sorted({name for name in strings if name}, key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, ordered)))


def escape(turns: Sequence[Turn], control: re.Pattern[str]) -> tuple[list[Turn], dict[str, str]]:
    """Put a private character for every control string that was typed; which stands for what is the second value.

    Of one that is divided over several texts of a turn, the first letter alone is replaced, so that it comes back in
    its place whatever a template writes between the texts, or before them.

    Raises:
        NoCharacterLeftError: the text holds them all.
    """
    free = _free("".join(turn.text for turn in turns), _PRIVATE)
    names: dict[str, str] = {}

    def private(typed: str) -> str:
        if typed not in names:
            names[typed] = next(free)
        return names[typed]

    escaped = []
    for turn in turns:
        texts = [control.sub(lambda match: private(match.group()), p) for p in turn.content if isinstance(p, str)]
        for k, place in sorted(_divided(texts, control)):
            texts[k] = texts[k][:place] + private(texts[k][place]) + texts[k][place + 1 :]
        left = iter(texts)
        escaped.append(
            replace(turn, content=tuple(p if isinstance(p, ImageSlot) else next(left) for p in turn.content))
        )
    return escaped, {character: typed for typed, character in names.items()}


def _divided(texts: Sequence[str], control: re.Pattern[str]) -> set[tuple[int, int]]:
    """Where control strings begin that neighbouring texts make together: which text, and the place in it.

    Templates write a turn's texts one behind the other, pictures before them or behind; some take away the blanks at
    both ends of each.
    """
    found = set[tuple[int, int]]()
    for trimmed in (False, True) if len(texts) > 1 else ():
        kept = [text.strip() if trimmed else text for text in texts]
        begins = list(accumulate(map(len, kept), initial=0))
        joined, at = "".join(kept), 0
        while match := control.search(joined, at):
            at = match.start() + 1
            k = bisect_right(begins, match.start()) - 1
            if match.end() > begins[k + 1]:
                cut = len(texts[k]) - len(texts[k].lstrip()) if trimmed else 0
                found.add((k, cut + match.start() - begins[k]))
    return found


def _free(text: str, first: Sequence[int]) -> Iterator[str]:
    """Private characters that a text does not hold; the usual ones first, in the order given."""
    held = set(text)
    yield from (chr(code) for code in chain(first, _MORE_PRIVATE) if chr(code) not in held)
    raise NoCharacterLeftError


def literal_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, Span]]:
    """Tokens of `text` as ordinary text in the middle of other text, each with the characters that it stands for.

    None of them is a control token, whatever the text says, and no blank is put in front, as Llama 2's tokenizers do
    at the beginning of a text.
    """
    if not text:
        return []
    anchor = next(_free(text, _PRIVATE[::-1]))
    found = _as_text(anchor + text, tokenizer)
    behind = [(i, (start - 1, end - 1)) for i, (start, end) in found if end > 1]
    if any(start < 0 for _, (start, _) in behind):  # joined with the anchor
        behind = _as_text(text, tokenizer)
    control = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
    if len(text) > 1 and any(i in control for i, _ in behind):
        # Added tokens that are not flagged special survive `split_special_tokens`; one character never is one.
        half = len(text) // 2
        right = literal_tokens(text[half:], tokenizer)
        return literal_tokens(text[:half], tokenizer) + [(i, (s + half, e + half)) for i, (s, e) in right]
    return behind


def _as_text(text: str, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, Span]]:
    found = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    spans = [(int(start), int(end)) for start, end in found["offset_mapping"]]
    return list(zip(found["input_ids"], spans, strict=True))
