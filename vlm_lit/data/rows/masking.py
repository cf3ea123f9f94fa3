"""Loss mask of a conversation, in characters: the assistant's words and the end of each assistant turn.

The mask follows the conversation's structure, never a search for token ids. The chat template is rendered for each
prefix of the conversation; where turn k starts and ends in the text is the length of two renderings. Three things
make that exact whatever a user types:

* Control strings inside what people say are escaped before rendering (`escapes.py`).
* A template that does not close an assistant turn (LLaVA-1.5's) gets the tokenizer's end-of-sequence token there, or
  the model would never learn to stop.
* A template that does not write what it was given is found by a probe (`template_probe.py`) and refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from vlm_lit.data.checkpoint.chat_template import ChatTemplate, TemplateRefusedError, TemplateStoppedError
from vlm_lit.data.checkpoint.template_probe import TemplateFacts, template_facts
from vlm_lit.data.rows.escapes import NoCharacterLeftError, Span, any_of, escape
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, ImageSlot, Turn


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, with one placeholder an image.

    `spans` are the character ranges to supervise. `asked` are the places where an answer is asked for: those where
    the spans begin, and the end of a prompt. `escapes` maps each private character to the control string that was typed
    in its place.
    """

    text: str
    spans: list[Span]
    escapes: dict[str, str]
    asked: list[int]


class Transcript:
    """Renders conversations with a processor's chat template, keeping track of who says what."""

    def __init__(self, processor: ProcessorMixin) -> None:
        self.processor = processor
        self.tokenizer: PreTrainedTokenizerBase = processor.tokenizer

    @cached_property
    def control_strings(self) -> re.Pattern[str]:
        """Every string the tokenizer or the processor gives a meaning of its own, longest first.

        Blanks have none, although a vocabulary may add a token for several: Gemma's has one for each number of line
        breaks.
        """
        names = {*self.tokenizer.get_added_vocab(), *self.tokenizer.all_special_tokens}
        names |= {str(getattr(self.processor, n)) for n in ("image_token", "video_token") if hasattr(self.processor, n)}
        return any_of(name for name in names if not name.isspace())

    @cached_property
    def facts(self) -> TemplateFacts:
        """What the template does with what is said.

        Raises:
            ConfigError: it loses, repeats, moves or changes it.
        """
        return template_facts(self.processor)

    @cached_property
    def template(self) -> ChatTemplate:
        """The template, given content in the forms it takes."""
        return ChatTemplate(self.processor, self.facts.forms)

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
            ConfigError: the chat template does not write what it is given.
            RecordError: the chat template refuses the conversation, or writes it so that no mask could be exact.
        """
        turns = conversation.turns
        if for_generation and turns[-1].role == "assistant":
            turns = turns[:-1]
        try:
            escaped, escapes = escape(turns, self.control_strings)
        except NoCharacterLeftError:
            raise RecordError(
                "it holds a control string of the tokenizer and every private character of Unicode, so that none is "
                "left to stand for the string",
                remedy="Take the private characters out.",
                file=conversation.file,
                record=conversation.record,
                code="template.private",
            ) from None
        rendering = _Rendering(self, conversation, escaped)
        rendering.check_system()
        try:
            text, spans = rendering.whole(for_generation=for_generation)
        except TemplateRefusedError as error:
            raise RecordError(
                f"the checkpoint's chat template refuses it: {str(error).rstrip('.')}",
                remedy="Change the conversation (a system message is often what is refused: set data.system to null), "
                "or give the checkpoint another chat_template.jinja.",
                file=conversation.file,
                record=conversation.record,
                code="template.refused",
            ) from error
        except TemplateStoppedError as error:
            raise RecordError(
                f"the checkpoint's chat template does not end on it: {error}",
                remedy="Give the checkpoint another chat_template.jinja.",
                file=conversation.file,
                record=conversation.record,
                code="template.stopped",
            ) from error
        return Rendered(text, spans, escapes, [begin for begin, _ in spans] + [len(text)] * for_generation)


class _Rendering:
    """One conversation on its way to text."""

    def __init__(self, transcript: Transcript, conversation: Conversation, turns: Sequence[Turn]) -> None:
        self.transcript, self.conversation, self.turns = transcript, conversation, turns
        self.full, self.asks = "", False

    def check_system(self) -> None:
        """Refuse a system message that the template would not write once, as it is."""
        facts = self.transcript.facts
        if facts.system is None and any(turn.role == "system" for turn in self.turns):
            self._refuse(
                f"it has a system message, and the checkpoint's chat template {facts.system_refusal.rstrip('.')}",
                "Leave the system message out (data.system: null) or put its words into the question; or give the "
                "checkpoint another chat_template.jinja.",
                "template.system",
            )

    def whole(self, *, for_generation: bool) -> tuple[str, list[Span]]:
        """The text, each assistant turn closed, and the spans to supervise in it."""
        self.full, self.asks = self.transcript.template.text(self.turns, for_generation=for_generation), for_generation
        pieces, spans, done = [], [], 0
        for k, turn in enumerate(self.turns):
            if turn.role != "assistant":
                continue
            start = self._prefix_length(k, for_generation=True)
            end = self._prefix_length(k + 1, for_generation=False)
            answer, resume = self._close(start, end, turn)
            pieces.append(self.full[done:start])
            begin = sum(map(len, pieces))
            pieces.append(answer)
            if turn.supervised:
                spans.append((begin, begin + len(answer)))
            done = resume
        pieces.append(self.full[done:])
        return "".join(pieces), spans

    def _close(self, start: int, end: int, turn: Turn) -> tuple[str, int]:
        """The text to supervise, from a turn's start to its end-of-turn, and where the rest of the text goes on."""
        full, facts = self.full, self.transcript.facts
        words = turn.text.strip() if facts.trims_answers else turn.text
        words_end = start + len(facts.separator) + len(words)
        if full[start:words_end] != facts.separator + words:
            rendered = full[start:end]
            self._refuse(
                "the chat template changes the assistant's words, so they cannot be found in its text: expected "
                f"{words[:60]!r}, rendered {rendered[:60]!r}",
                "Change the answer (thinking templates cut one at </think>), or give the checkpoint another "
                "chat_template.jinja.",
                "template.changed",
            )
        closing = self.transcript.control_strings.search(full, words_end, end)
        if closing is not None:
            return full[start : closing.end()], closing.end()
        # Official LLaVA training puts the token right after the words, in the place of the template's blank.
        blank = full[words_end:end].isspace()
        return full[start:words_end] + str(self.transcript.tokenizer.eos_token), end if blank else words_end

    def _prefix_length(self, turns: int, *, for_generation: bool) -> int:
        if turns == len(self.turns) and not for_generation and not self.asks:
            return len(self.full)  # the very rendering that is there already
        prefix = self.transcript.template.text(self.turns[:turns], for_generation=for_generation)
        if not self.full.startswith(prefix):
            problem, remedy = self._unnested(turns, prefix)
            self._refuse(problem, remedy, "template.nesting")
        return len(prefix)

    def _unnested(self, turns: int, prefix: str) -> tuple[str, str]:
        """Why what the template writes for the first turns is not the beginning of the whole, and what to do."""
        facts = self.transcript.facts
        begins = "the chat template does not nest: "
        if self.turns[0].role == "system" and facts.system == "the last question":
            return (
                f"{begins}it writes the system message into the last question, so an earlier answer was given to a "
                "prompt that the whole conversation does not have",
                "Leave the system message out (data.system: null), or split the record at its answers.",
            )
        if not facts.several_turns:
            return (
                f"{begins}it writes an earlier answer otherwise than the last one, as thinking templates do",
                "Split the record at its answers, one answer each; or give the checkpoint another chat_template.jinja.",
            )
        if _pictured(self.turns[turns:]) and not _pictured(self.turns[:turns]):
            return (
                f"{begins}it writes another beginning where there is a picture (Llama 3.2's leaves its system turn "
                "out), and the first picture stands in a later turn",
                "Move the picture to the first question, or split the record so that it begins with the picture.",
            )
        return (
            f"{begins}what it writes for the first {turns} turns is not the beginning of what it writes for all of "
            f"them. Prefix ends {prefix[-60:]!r}",
            "If there is a system message, leave it out; or give the checkpoint another chat_template.jinja.",
        )

    def _refuse(self, problem: str, remedy: str, code: str) -> NoReturn:
        raise RecordError(
            problem, remedy=remedy, file=self.conversation.file, record=self.conversation.record, code=code
        )


def _pictured(turns: Sequence[Turn]) -> bool:
    return any(isinstance(part, ImageSlot) for turn in turns for part in turn.content)


def shift_spans(spans: Sequence[Span], replacements: Sequence[dict[str, Span]]) -> list[Span]:
    """Move spans of the rendered text to the text in which each image placeholder has been written out."""

    def moved(position: int) -> int:
        grown = [r for r in replacements if r["span"][1] <= position]
        return position + sum((r["new_span"][1] - r["new_span"][0]) - (r["span"][1] - r["span"][0]) for r in grown)

    return [(moved(start), moved(end)) for start, end in spans]
