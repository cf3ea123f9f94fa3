"""Probe of a chat template: marks in every role and place show what the template does with words.

A mark is a word between two private characters. Each must come back once, in its turn, unchanged: a template that
loses, repeats, moves or rewrites one would train a model on other words than the records have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

from transformers import ProcessorMixin

from vlm_lit.data.checkpoint.chat_template import FORMS, ChatTemplate, Form, TemplateRefusedError, TemplateStoppedError
from vlm_lit.errors import ConfigError
from vlm_lit.schema import IMAGE, Role, Turn

SystemPlace = Literal["a turn of its own", "the first question", "the last question"]

_REMEDY: Final = "Give the checkpoint's folder a chat_template.jinja that does not."
_AS_PARTS: Final = " where a message is a list of parts (templates of models for text alone do)"
# Python's writing of a list of parts, which a template writes that takes strings only.
_STRINGIFIED: Final = re.compile(r"['\"]type['\"]: *['\"](?:text|image)")


def _mark(k: int) -> str:
    return f"{chr(0xF800 + k)}Mark é{chr(0xF840 + k)}"


_SYSTEM, _FIRST, _MIDDLE, _LAST, _ANSWER, _AGAIN, _SECOND = map(_mark, range(7))
_QUESTION: Final = Turn(role="user", content=(_FIRST, IMAGE, _MIDDLE, IMAGE, _LAST))
_TOLD: Final = Turn(role="system", content=(_SYSTEM,))
_ASKED: Final = Turn(role="user", content=(_FIRST,))
_ANSWERED: Final = Turn(role="assistant", content=(_ANSWER,))
_MORE: Final = (Turn(role="user", content=(_AGAIN,)), Turn(role="assistant", content=(_SECOND,)))


@dataclass(frozen=True, kw_only=True)
class TemplateFacts:
    """What a template does.

    Args:
        forms: how each role's content is written for it.
        separator: the blanks it writes between what asks for an answer and the answer.
        trims_answers: whether it takes away the blanks that an answer begins or ends with.
        trims_questions: the same of what users say.
        images: where a picture goes that stands between words.
        system: where a system message goes; None where it is refused.
        system_refusal: what it does with a system message where that is refused, or what it said.
        several_turns: whether what it writes for a conversation begins with what it writes for its first turns.
    """

    forms: Mapping[Role, Form]
    separator: str
    trims_answers: bool
    trims_questions: bool
    images: Literal["in place", "before the words", "after the words"]
    system: SystemPlace | None
    system_refusal: str
    several_turns: bool

    @property
    def notes(self) -> list[str]:
        """What whoever trains with it should know, a sentence each."""
        return list(self._notes())

    def _notes(self) -> Iterator[str]:
        if self.images != "in place":
            yield f"The chat template writes a turn's pictures {self.images}, wherever the record has them."
        if self.system is None:
            yield f"Records with a system message are refused: the chat template {self.system_refusal.rstrip('.!')}."
        elif self.system != "a turn of its own":
            yield f"The chat template writes a system message into {self.system}."
        if self.trims_answers:
            yield "The chat template takes away blanks at both ends of an answer: what is left is trained."
        if self.trims_questions:
            yield "The chat template takes away blanks at both ends of a question's texts."
        if not self.several_turns:
            yield (
                "The chat template writes an earlier answer otherwise than the last one (thinking templates take its "
                "thought away), so records of several answers are refused."
            )


def template_facts(processor: ProcessorMixin) -> TemplateFacts:
    """Probe a processor's chat template.

    Raises:
        ConfigError: it loses, repeats, moves or changes what is said, does not write answers as it asks for them, or
            does not end.
    """
    try:
        return _facts(processor)
    except TemplateStoppedError as error:
        raise ConfigError(
            f"The chat template does not end by itself: {error}. Give the checkpoint's folder another "
            "chat_template.jinja."
        ) from error


def _facts(processor: ProcessorMixin) -> TemplateFacts:
    template = ChatTemplate(processor, _forms(processor))
    prompt = template.text([_QUESTION], for_generation=True)
    row = template.text([_QUESTION, _ANSWERED], for_generation=False)
    if not row.startswith(prompt):
        raise ConfigError(_unlike(prompt, row))
    separator = row[len(prompt) : row.index(_ANSWER)]
    if separator.strip():
        raise ConfigError(
            f"The chat template writes {separator!r} between what asks for an answer and the answer, so a model would "
            "have to write that first. A thinking checkpoint's template does so. Train its Instruct version, or give "
            "the checkpoint's folder a chat_template.jinja that writes it before the answer is asked for, or never."
        )
    forms, (place, refusal) = template.forms, _system(template)
    return TemplateFacts(
        forms=forms,
        separator=separator,
        trims_answers=_trims(template, "assistant"),
        trims_questions=_trims(template, "user"),
        images=_images(row, template.text(_without_images([_QUESTION, _ANSWERED]), for_generation=False)),
        system=place,
        system_refusal=refusal,
        several_turns=_nests(template, [_QUESTION, _ANSWERED, *_MORE]),
    )


def _forms(processor: ProcessorMixin) -> dict[Role, Form]:
    """The first form of each role in which its marks come back once, in their turn, unchanged.

    Raises:
        ConfigError: there is none.
    """
    found: list[str] = []
    for user, assistant in product(FORMS["user"], FORMS["assistant"]):
        forms: dict[Role, Form] = {"user": user, "assistant": assistant, "system": "list"}
        template = ChatTemplate(processor, forms)
        problem = _problem(template, [_QUESTION, _ANSWERED])
        if problem is None:
            return {**forms, "system": _system_form(template)}
        found.append(problem)
    raise ConfigError(f"The chat template {found[0]}. {_REMEDY}")


def _system_form(template: ChatTemplate) -> Form:
    """The form in which a system message comes back; else the one that shows best why it does not."""
    problems: dict[Form, str] = {}
    for form in FORMS["system"]:
        trial = ChatTemplate(template.processor, {**template.forms, "system": form})
        problem = _problem(trial, [_TOLD, _ASKED, _ANSWERED])
        if problem is None:
            return form
        problems[form] = problem
    # A template that takes the other form ends with a Python error, which says nothing to its user.
    return next((form for form, problem in problems.items() if "Error: " not in problem), "list")


def _problem(template: ChatTemplate, turns: Sequence[Turn]) -> str | None:
    """What is wrong with what the template writes for marked turns; None where nothing is."""
    try:
        text = template.text(turns, for_generation=False)
    except TemplateRefusedError as error:
        what = "a system message" if turns[0].role == "system" else "a question with pictures and its answer"
        return f"refuses {what}: {error}"
    if _STRINGIFIED.search(text):
        return "writes Python's form of a message, [{'type': ..., into the text"
    for turn in turns:
        who = {"user": "a user's", "assistant": "the assistant's", "system": "the system message's"}[turn.role]
        for mark in (part for part in turn.content if isinstance(part, str)):
            count = text.count(mark)
            if count > 1:
                return f"writes {who} words {count} times"
            if count == 0:
                changed = mark[0] in text or mark[-1] in text
                return f"{'changes' if changed else 'leaves out'} {who} words{_AS_PARTS * (not changed)}"
    images = sum(part == IMAGE for turn in turns for part in turn.content)
    if images and len(template.text(_without_images(turns), for_generation=False)) == len(text):
        return "writes nothing where a picture is (that of a model for text only does so)"
    return None


def _without_images(turns: Sequence[Turn]) -> list[Turn]:
    return [Turn(role=t.role, content=tuple(p for p in t.content if isinstance(p, str))) for t in turns]


def _unlike(prompt: str, row: str) -> str:
    common = next((k for k, (a, b) in enumerate(zip(prompt, row, strict=False)) if a != b), len(row))
    begin = max(0, common - 24)
    asks, writes = _shown(prompt[begin:]), _shown(row[begin : row.find(_ANSWER)])
    return (
        f"The chat template does not nest: it asks for an answer with {asks}, but writes {writes} before the same "
        "answer in a whole conversation, so a model would be trained on another prompt than it is asked. Give the "
        "checkpoint's folder a chat_template.jinja that writes both alike."
    )


def _shown(text: str) -> str:
    return repr(re.sub("[\uf800-\uf8ff]", "", text)[:60])


def _images(row: str, without: str) -> Literal["in place", "before the words", "after the words"]:
    """Where the pictures stand in a rendered question, told by what it is `without` them."""

    def between(text: str) -> str:
        return text[text.index(_FIRST) + len(_FIRST) : text.index(_MIDDLE)]

    if between(row) != between(without):
        return "in place"
    return "before the words" if row.index(_FIRST) > without.index(_FIRST) else "after the words"


def _system(template: ChatTemplate) -> tuple[SystemPlace | None, str]:
    """Where a system message goes; or None, and what the template says to it."""
    turns = [_TOLD, _ASKED, _ANSWERED]
    problem = _problem(template, turns)
    if problem is not None:
        return None, problem
    try:
        text = template.text([*turns, *_MORE], for_generation=False)
    except TemplateRefusedError as error:
        return None, f"refuses it in a longer conversation: {error}"
    if text.index(_SYSTEM) > text.index(_ANSWER):
        return "the last question", ""
    between = text[text.index(_SYSTEM) + len(_SYSTEM) : text.index(_FIRST)]
    return ("a turn of its own", "") if between.strip() else ("the first question", "")


def _trims(template: ChatTemplate, role: Role) -> bool:
    mark = _ANSWER if role == "assistant" else _FIRST
    padded = f"\n  {mark} \n"
    turns = [Turn(role="user", content=(padded,)) if role == "user" else _ASKED]
    turns.append(Turn(role="assistant", content=(padded,)) if role == "assistant" else _ANSWERED)
    return padded not in template.text(turns, for_generation=False)


def _nests(template: ChatTemplate, turns: Sequence[Turn]) -> bool:
    """Whether the whole text begins with what is written for the first turns, wherever an answer begins or ends."""
    try:
        full = template.text(turns, for_generation=False)
        answers = [k for k, turn in enumerate(turns) if turn.role == "assistant"]
        return all(
            full.startswith(template.text(turns[:k], for_generation=True))
            and full.startswith(template.text(turns[: k + 1], for_generation=False))
            for k in answers
        )
    except TemplateRefusedError:
        return False
