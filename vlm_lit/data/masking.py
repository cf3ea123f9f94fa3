"""Which tokens does a conversation supervise? Exactly the assistant's words and the end of each assistant turn.

The mask follows the conversation's structure, never a search for token ids. The chat template is rendered for each
prefix of the conversation; where turn k starts and ends in the text is the length of two renderings. Three things
make that exact whatever a user types:

* Control strings inside what people say are escaped before rendering (`escapes.py`).
* A template that does not close an assistant turn (LLaVA-1.5's) gets the tokenizer's end-of-sequence token there, or
  the model would never learn to stop.
* A template whose prefixes do not nest is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from vlm_lit.data.escapes import Span, any_of, escape
from vlm_lit.schema import ConfigError, Conversation, ImageSlot, RecordError, Turn

# Llama 3's templates write today's date into the prompt unless they are given one: a model would be trained on one
# prompt and asked another. This is their own fallback.
_DATE: Final = {"date_string": "26 Jul 2024"}


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, with one placeholder an image.

    `spans` are the character ranges to supervise. `escapes` maps each private character to the control string that
    was typed in its place.
    """

    text: str
    spans: list[Span]
    escapes: dict[str, str]


class Transcript:
    """Renders conversations with a processor's chat template, keeping track of who says what."""

    def __init__(self, processor: ProcessorMixin) -> None:
        self.processor = processor
        self.tokenizer: PreTrainedTokenizerBase = processor.tokenizer

    @cached_property
    def control_strings(self) -> re.Pattern[str]:
        """Every string the tokenizer or the processor gives a meaning of its own, longest first."""
        names = {*self.tokenizer.get_added_vocab(), *self.tokenizer.all_special_tokens}
        names |= {str(getattr(self.processor, n)) for n in ("image_token", "video_token") if hasattr(self.processor, n)}
        return any_of(names)

    @cached_property
    def end_of_turn(self) -> tuple[int, ...]:
        """Token ids that end an assistant turn: the one this template supervises, and the tokenizer's own."""
        turns = (Turn(role="user", content=("a",)), Turn(role="assistant", content=("b",)))
        rendered = self.render(Conversation(id="probe", turns=turns, images=()))
        ends = [match.group() for match in self.control_strings.finditer(rendered.text[slice(*rendered.spans[-1])])]
        ids = {int(self.tokenizer.convert_tokens_to_ids(ends[-1])), int(self.tokenizer.eos_token_id)}
        return tuple(sorted(ids))

    def render(self, conversation: Conversation, *, for_generation: bool = False) -> Rendered:
        """The conversation's text and its supervised spans.

        Args:
            conversation: what was said.
            for_generation: stop before the last assistant turn, where the model is to answer.

        Raises:
            ConfigError: the chat template's prefixes do not nest.
            RecordError: the chat template refuses the conversation.
        """
        turns = conversation.turns
        if for_generation and turns[-1].role == "assistant":
            turns = turns[:-1]
        escaped, escapes = escape(turns, self.control_strings)
        try:
            text, spans = self._render_spans(escaped, for_generation=for_generation)
        except TemplateError as error:
            raise RecordError(
                f"the checkpoint's chat template refuses it: {error}",
                remedy="Change the conversation (a system message is often what is refused: set data.system to null), "
                "or give the checkpoint another chat_template.jinja.",
                file=conversation.file,
                record=conversation.record,
                code="template.refused",
            ) from error
        return Rendered(text, spans, escapes)

    def _render_spans(self, turns: Sequence[Turn], *, for_generation: bool) -> tuple[str, list[Span]]:
        full = self._apply(turns, for_generation=for_generation)
        pieces, spans, done = [], [], 0
        for k, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            start = self._prefix_length(full, turns[:k], for_generation=True)
            end = self._prefix_length(full, turns[: k + 1], for_generation=False)
            answer, resume = self._close(full, start, end, turn)
            pieces.append(full[done:start])
            begin = sum(map(len, pieces))
            pieces.append(answer)
            if turn.supervised:
                spans.append((begin, begin + len(answer)))
            done = resume
        pieces.append(full[done:])
        return "".join(pieces), spans

    def _close(self, full: str, start: int, end: int, turn: Turn) -> tuple[str, int]:
        """The text to supervise, from turn's start to its end-of-turn, and where the rest of `full` goes on."""
        words = turn.text.strip()
        lead = len(full[start:end]) - len(full[start:end].lstrip())
        if not full.startswith(words, start + lead):
            raise ConfigError(
                "The chat template changes the assistant's words, so they cannot be found in its text: "
                f"expected {words[:60]!r}, rendered {full[start:end][:60]!r}."
            )
        words_end = start + lead + len(words)
        closing = self.control_strings.search(full, words_end, end)
        if closing is not None:
            return full[start : closing.end()], closing.end()
        # Official LLaVA training puts the token right after the words, in the place of the template's blank.
        blank = full[words_end:end].isspace()
        return full[start:words_end] + str(self.tokenizer.eos_token), end if blank else words_end

    def _prefix_length(self, full: str, turns: Sequence[Turn], *, for_generation: bool) -> int:
        prefix = self._apply(turns, for_generation=for_generation)
        if not full.startswith(prefix):
            raise ConfigError(
                "The chat template does not nest: what it writes for the first "
                f"{len(turns)} turns is not the beginning of what it writes for all of them, so the label mask cannot "
                f"be exact. Prefix ends {prefix[-60:]!r}. If there is a system message, leave it out (some templates "
                "move it to the last question); or give the checkpoint another chat_template.jinja."
            )
        return len(prefix)

    def _apply(self, turns: Sequence[Turn], *, for_generation: bool) -> str:
        if not turns:
            return ""
        messages = [{"role": turn.role, "content": [_part(part) for part in turn.content]} for turn in turns]
        date = _DATE if "date_string" in str(self.processor.chat_template) else {}
        text = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=for_generation, **date
        )
        return str(text)


def _part(part: str | ImageSlot) -> dict[str, str]:
    return {"type": "image"} if isinstance(part, ImageSlot) else {"type": "text", "text": part}


def shift_spans(spans: Sequence[Span], replacements: Sequence[dict[str, Span]]) -> list[Span]:
    """Move spans of the rendered text to the text in which each image placeholder has been written out."""

    def moved(position: int) -> int:
        grown = [r for r in replacements if r["span"][1] <= position]
        return position + sum((r["new_span"][1] - r["new_span"][0]) - (r["span"][1] - r["span"][0]) for r in grown)

    return [(moved(start), moved(end)) for start, end in spans]


def supervised_tokens(offsets: Sequence[Span], spans: Sequence[Span], conversation: Conversation) -> list[bool]:
    """For each token, whether its characters lie in a supervised span.

    Raises:
        RecordError: a token reaches over a span's border, so that no mask could be exact.
    """
    mask = [False] * len(offsets)
    for begin, finish in spans:
        for i, (start, end) in enumerate(offsets):
            # A token that is a lone blank has its offsets trimmed to the empty range behind the blank.
            if end <= begin or start > finish or (start == finish and end > start):
                continue
            if start < begin or end > finish:
                raise RecordError(
                    "the tokenizer joins the assistant's first or last letters with the template around them",
                    remedy="Use a chat template that closes turns with a control token.",
                    file=conversation.file,
                    record=conversation.record,
                )
            mask[i] = True
    return mask
