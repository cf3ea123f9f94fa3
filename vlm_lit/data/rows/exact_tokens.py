"""Exact tokenization: tokens end where an answer begins, and typed text is kept byte for byte.

A tokenizer joins letters across borders that matter here: the line break that ends a prompt with the one that an answer
begins with, or a blank with the private character behind it that stands for a typed control string. Where it does, and
only there, the letters of that place are tokenized anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from transformers import PreTrainedTokenizerBase

from vlm_lit.data.rows.escapes import Span, literal_tokens
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation

_WINDOW = 256
_SHORT, _KEPT = 64, 256


@dataclass(frozen=True)
class Tokens:
    """A row's T tokens: their ids, the characters each stands for, and the old token whose other fields it takes."""

    ids: list[int]
    offsets: list[Span]
    source: list[int]

    @classmethod
    def old(cls, ids: list[int], offsets: list[Span]) -> Tokens:
        """The tokens as the tokenizer gave them."""
        return cls(ids, offsets, list(range(len(ids))))

    def __len__(self) -> int:
        return len(self.ids)

    def spliced(self, start: int, stop: int, new: Sequence[tuple[int, Span]]) -> Tokens:
        """With other tokens in the place of those from `start` to `stop`."""
        source = self.source[min(start, len(self) - 1)]
        return Tokens(
            [*self.ids[:start], *(i for i, _ in new), *self.ids[stop:]],
            [*self.offsets[:start], *(span for _, span in new), *self.offsets[stop:]],
            [*self.source[:start], *(source for _ in new), *self.source[stop:]],
        )


def keep_blanks_in_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make a tokenizer count the blanks in a token among its characters; its token ids stay what they are.

    Byte-level tokenizers leave them out by default, so that nothing would say which token holds a blank.
    """
    backend: Any = tokenizer.backend_tokenizer
    post = backend.post_processor
    if post is None:
        return
    state = post.__getstate__()
    changed = re.sub(rb'"trim_offsets":\s*true', b'"trim_offsets":false', state)
    if changed != state:
        post.__setstate__(changed)
        backend.post_processor = post


class ExactTokens:
    """Mends the tokens of a row.

    Args:
        tokenizer: whose tokens they are.
        control: matches its control strings, at which tokens always begin and end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, control: re.Pattern[str]) -> None:
        self.tokenizer, self.control = tokenizer, control
        self._seen: dict[str, list[tuple[int, Span]]] = {}

    @cached_property
    def _before(self) -> int:
        """How many special tokens the tokenizer puts before a text."""
        marks: list[int] = self.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        return marks.index(0)

    def _tokenized(self, text: str) -> list[tuple[int, Span]]:
        if text in self._seen:
            return self._seen[text]
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        tokens = list(zip(found["input_ids"], found["offset_mapping"], strict=True))
        # A prompt ends with the same few words in every row.
        if len(text) <= _SHORT and len(self._seen) < _KEPT:
            self._seen[text] = tokens
        return tokens

    def with_other_end(self, tokens: Tokens, text: str, end: int, other: str, *, special: bool) -> Tokens:
        """The tokens of a text that begins as another does, anew from the last control string in what is alike.

        Args:
            tokens: the other's.
            text: what they are tokens of.
            end: up to where the two are alike.
            other: the text whose tokens are asked for.
            special: whether the tokenizer puts its special tokens around a row.
        """
        origin, first = self._firm_start(tokens, text, end, special)
        found = self.tokenizer(other[origin:], add_special_tokens=special, return_offsets_mapping=True)
        ids, offsets = found["input_ids"], found["offset_mapping"]
        if origin == 0:
            return Tokens.old(ids, offsets)
        begun = self._before if special else 0
        moved = [(0, 0) if stop == 0 else (start + origin, stop + origin) for start, stop in offsets[begun:]]
        return Tokens.old([*tokens.ids[:first], *ids[begun:]], [*tokens.offsets[:first], *moved])

    def divided(self, tokens: Tokens, text: str, asked: Sequence[int], *, special: bool) -> Tokens:
        """Tokens up to each place where an answer is asked for, as they are when the text ends there; then the rest.

        Args:
            tokens: the row's.
            text: what they are tokens of.
            asked: the places.
            special: whether the tokenizer put its special tokens around the row.
        """
        for place in asked:
            tokens = self._divided_at(tokens, text, place, special)
        return tokens

    def _divided_at(self, tokens: Tokens, text: str, place: int, special: bool) -> Tokens:
        origin, first = self._firm_start(tokens, text, place, special)
        # Without special tokens: one that ends a text would stand before the answer.
        found = self._tokenized(text[origin:place])
        asked = [(i, (start + origin, end + origin)) for i, (start, end) in found]
        present = zip(tokens.ids[first:], tokens.offsets[first:], strict=True)
        same = next((k for k, (a, b) in enumerate(zip(asked, present, strict=False)) if a != b), None)
        if same is None:
            same = min(len(asked), len(tokens) - first)
        stop, border = first + same, place
        if same == len(asked) and (stop == len(tokens) or tokens.offsets[stop][0] >= place):
            return tokens
        while stop < len(tokens) and tokens.offsets[stop][0] < border:
            border = max(border, tokens.offsets[stop][1])
            stop += 1
        border = _with_marks(tokens.offsets, stop, border, text)
        rest = literal_tokens(text[place:border], self.tokenizer)
        behind = [(i, (start + place, end + place)) for i, (start, end) in rest]
        return tokens.spliced(first + same, stop, [*asked[same:], *behind])

    def _firm_start(self, tokens: Tokens, text: str, place: int, special: bool) -> tuple[int, int]:
        """The last control string before a place and its token; the text's beginning where there is none."""
        window = max(0, place - _WINDOW)
        for match in reversed(list(self.control.finditer(text, window, place))):
            first = _beginning_at(tokens.offsets, match.start())
            if first is not None:
                return match.start(), first
        return 0, self._before if special else 0

    def with_typed(self, tokens: Tokens, text: str, typed: Mapping[str, str]) -> Tokens:
        """The typed control strings put back as ordinary text, where their private characters stand.

        Args:
            tokens: the row's.
            text: what they are tokens of.
            typed: for each private character what was typed in its place.
        """
        ids, offsets, source = list[list[int]](), list[list[Span]](), list[list[int]]()
        put_back: dict[str, list[int]] = {}
        kept = len(tokens)  # those before are still as they were, going backwards
        for at in reversed([at for at, character in enumerate(text) if character in typed]):
            start, stop = _covering(tokens.offsets, at, kept)
            if start == stop:
                continue  # put back together with a later one
            begin, end = tokens.offsets[start][0], max(e for _, e in tokens.offsets[start:stop])
            while start > 0 and tokens.offsets[start - 1][1] > begin:
                start -= 1
                begin = min(begin, tokens.offsets[start][0])
            said = "".join(typed.get(character, character) for character in text[begin:end])
            if said not in put_back:
                put_back[said] = [i for i, _ in literal_tokens(said, self.tokenizer)]
            new = put_back[said]
            ids += [tokens.ids[stop:kept], new]
            offsets += [tokens.offsets[stop:kept], [(begin, end)] * len(new)]
            source += [tokens.source[stop:kept], [tokens.source[start]] * len(new)]
            kept = start
        parts = ((ids, tokens.ids), (source, tokens.source))
        whole_ids, whole_source = (list(chain(own[:kept], *reversed(pieces))) for pieces, own in parts)
        return Tokens(whole_ids, list(chain(tokens.offsets[:kept], *reversed(offsets))), whole_source)


def _beginning_at(offsets: Sequence[Span], place: int) -> int | None:
    """The first token whose characters begin at a place; None where none does. Looked for from the end."""
    first = None
    for i in reversed(range(len(offsets))):
        start, end = offsets[i]
        if start == place < end:
            first = i
        elif start < end <= place:
            break  # what stands before it
    return first


def _with_marks(offsets: Sequence[Span], stop: int, end: int, text: str) -> int:
    """The end of what the tokens before `stop` stand for, whose offsets end at `end`.

    A normalizer that composes letters (NFC) leaves the accents that it joins to a letter out of its offsets.
    """
    while stop < len(offsets) and offsets[stop][0] == offsets[stop][1]:
        stop += 1
    following = offsets[stop][0] if stop < len(offsets) else len(text)
    while end < following and not text[end].isspace():
        end += 1
    return end


def _covering(offsets: Sequence[Span], at: int, stop: int) -> tuple[int, int]:
    """Of the tokens before `stop`, the first and the end of those that hold a character; equal where none does."""
    while stop > 0 and (offsets[stop - 1][0] > at or offsets[stop - 1][0] == offsets[stop - 1][1]):
        stop -= 1
    start = stop
    while start > 0 and offsets[start - 1][0] <= at < offsets[start - 1][1]:
        start -= 1
    return start, stop


def supervised_tokens(
    offsets: Sequence[Span], spans: Sequence[Span], text: str, conversation: Conversation
) -> list[bool]:
    """For each token, whether its characters lie in a supervised span.

    Raises:
        RecordError: a token reaches over a span's border, so that no mask could be exact.
    """
    mask = [False] * len(offsets)
    for begin, finish in spans:
        for i, (start, end) in enumerate(offsets):
            empty = start == end
            if (end <= begin or start >= finish) and not (empty and 0 < begin <= start < finish):
                continue
            # Some control tokens take the blanks behind them along.
            if start < begin or (end > finish and not text[finish:end].isspace()):
                raise RecordError(
                    "the tokenizer joins the assistant's last letters with the template behind them",
                    remedy="Use a chat template that closes turns with a control token.",
                    file=conversation.file,
                    record=conversation.record,
                    code="template.joined",
                )
            mask[i] = True
    return mask
