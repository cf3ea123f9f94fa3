"""Conversations made from records, and the check that a model can learn from each.

The one way from a `Record` in any accepted form to a `Conversation`: turns in order, each image slot with its
image, the answers it is scored against. What cannot be used is refused here, before a model is loaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from vlm_lit.data.conversations.choices import choices_of, right_letter
from vlm_lit.data.conversations.record_forms import ANSWER_KEYS, Formed, answer_key, formed
from vlm_lit.data.conversations.record_keys import (
    refuse_carried,
    refuse_unshown_image,
    unused_keys,
    without_ignored,
)
from vlm_lit.data.conversations.refusals import digits_or_words, empty, refusal, refuse_unfilled, words
from vlm_lit.data.conversations.shown_options import refuse_hidden_options
from vlm_lit.data.conversations.slots import Draft, Placeholders
from vlm_lit.data.conversations.soft_scores import refuse_soft_scores
from vlm_lit.data.conversations.turns import draft
from vlm_lit.data.images.image_paths import resolved_folder
from vlm_lit.errors import RecordError
from vlm_lit.schema import IMAGE, Conversation, DataItem, ImageRef, ImageSlot, Note, Record, Turn
from vlm_lit.vqa.counted_answers import ONCE_EACH, UncountableAnswerError, answer_of, counted_answers

_GROUP_KEYS: Final = ("answer_type", "question_type")

_PLACEHOLDER: Final = re.compile(
    r"\[(?:ANNOTATE|TODO)\b.*\]|(?:TODO|FIXME)(?::.*)?|<(?:your )?answer(?: here)?>|\{answer\}", re.DOTALL
)
"""An answer somebody meant to write. `N/A`, `none` and `...` are not here: they answer questions."""


def to_conversation(
    record: Record,
    *,
    prompt: str | None = None,
    system: str | None = None,
    requires_answer: bool,
    group_fields: Sequence[str] = (),
    ignore_keys: Collection[str] = (),
    known_keys: Collection[str] = (),
    placeholders: Placeholders = "slots",
) -> Conversation:
    """Read a record in any of the accepted forms; see `record_forms.py`.

    A question's training text is its `multiple_choice_answer`, else its most common answer (the first of
    equals), as for VQA v2. References are the record's answers as given, else the last assistant turn's words,
    unless they are not to be learned.

    Args:
        record: the row.
        prompt: template of the user turn over the fields of a record that has no turns; `"{question}"` by default.
        system: a system turn for records that bring none of their own.
        requires_answer: whether the conversation must end with an answer to learn from. Where it need not,
            a last answer that is empty or a placeholder counts as absent.
        group_fields: fields whose values name further breakdowns of the score, besides `answer_type` and
            `question_type`; true and false are names as well.
        ignore_keys: keys that are left out, of the record and of its turns.
        known_keys: further keys that need not be used.
        placeholders: `text` reads `<image>` and what other programs write for it as words.

    Raises:
        RecordError: the record cannot be used; its `code` starts with `conversation.`, `image.` or `path.`.
    """
    given = without_ignored(record, ignore_keys)
    form = formed(given, prompt)
    record = form.record
    found = _with_slots(draft(form, prompt, placeholders))
    if not found.images:
        refuse_unshown_image(given, form.used)
    answers = _answers(record, form)
    turns = _with_answer(record, form, found.turns, answers)
    if not requires_answer:
        turns, answers = _without_blank_answer(turns, answers)
    refuse_carried(given, form.used)
    _check_turns(record, turns, requires_answer)
    _check_image_count(record, turns, found.images)
    choices, last = choices_of(record), turns[-1]
    references = answers or ((last.text,) if last.role == "assistant" and last.supervised else ())
    refuse_hidden_options(record, prompt if form.turns is None else None, turns, references)
    if system and turns[0].role != "system":
        turns = (Turn(role="system", content=(system,)), *turns)
    return Conversation(
        id=_id(record),
        turns=turns,
        images=tuple(found.images),
        references=references,
        image_id=_image_id(record, found.images),
        groups=_groups(record, group_fields),
        choices=choices,
        file=record.file,
        record=record.name,
        notes=(*found.notes, *_notes(given, form, {*group_fields, *known_keys}, found.images)),
    )


def _notes(record: Record, form: Formed, known: Collection[str], images: Sequence[ImageRef]) -> Iterator[Note]:
    answers = {"answers"} if form.turns is not None else _answer_keys(record)
    return unused_keys(record, {*form.used, *known, *answers}, images)


def _answer_keys(record: Record) -> set[str]:
    """The answer keys of a question that are read, and those that say no more than these."""
    there = {key: value for key in ANSWER_KEYS if (value := record.fields.get(key)) is not None}
    first = there.get(answer_key(record) or "")
    said = [first, *map(answer_of, first)] if isinstance(first, list | tuple) else [first]
    return {key for key, value in there.items() if key == "multiple_choice_answer" or value in said}


def check_unique_ids(items: Iterable[DataItem]) -> None:
    """Refuse two items of one id: scores and exact resume go by it.

    Raises:
        RecordError: naming both records.
    """
    seen: dict[str, DataItem] = {}
    for item in items:
        first = seen.setdefault(item.id, item)
        if first is not item:
            raise RecordError(
                f"the id {item.id!r} is also that of {first.file}, record {first.record}",
                remedy="Give each record an id of its own; or let its number name it: columns: {id_in_source: id}, or "
                "{id_in_source: question_id}.",
                file=item.file,
                record=item.record,
                code="conversation.duplicate_id",
            )


def _with_slots(found: Draft) -> Draft:
    """Put the images at the start of the first user turn where the record does not say where they go."""
    if not found.images or _slots(found.turns):
        return found
    turns = list(found.turns)
    for position, turn in enumerate(turns):
        if turn.role == "user":
            turns[position] = replace(turn, content=(*(IMAGE for _ in found.images), *turn.content))
            break
    return replace(found, turns=turns)


def _with_answer(record: Record, form: Formed, turns: Sequence[Turn], answers: tuple[str, ...]) -> tuple[Turn, ...]:
    """Add the assistant's turn to a question; the other forms have theirs."""
    if form.turns is not None or not answers:
        return tuple(turns)
    chosen = record.fields.get("multiple_choice_answer")
    if empty(chosen):
        chosen = Counter(answers).most_common(1)[0][0]  # in order of first appearance among equals
    text = digits_or_words(record, chosen, "multiple_choice_answer")
    return (*turns, Turn(role="assistant", content=(text,)))


def has_own_turns(record: Record, prompt: str | None) -> bool:
    """Whether a record is written as turns, rather than as a question and its answers."""
    return formed(record, prompt).turns is not None


def _answers(record: Record, form: Formed) -> tuple[str, ...]:
    """The accepted answers as given, from the first answer key that holds any, else the right choice's letter."""
    keys = ("answers",) if form.turns is not None else ANSWER_KEYS
    key = answer_key(record, keys)
    if key is not None:
        value = record.fields[key]
        refuse_soft_scores(record, key, value)
        entries = value if isinstance(value, list | tuple) else [value]
        if not entries:
            raise refusal(record, f"{key} is an empty list", remedy="Give one answer at least.", code="no_answer")
        return tuple(digits_or_words(record, one, f"an answer in {key!r}") for one in _given(record, entries))
    letter = None if form.turns is not None else right_letter(record)
    return () if letter is None else (letter,)


def _given(record: Record, entries: Sequence[object]) -> list[object]:
    """The answers of a list, each as often as it was given."""
    try:
        return counted_answers(entries)
    except UncountableAnswerError as error:
        remedy = f"{ONCE_EACH} Or name the key in ignore_keys, to count each entry once."
        raise refusal(record, str(error), remedy=remedy, code="value") from None


def _without_blank_answer(
    turns: tuple[Turn, ...], answers: tuple[str, ...]
) -> tuple[tuple[Turn, ...], tuple[str, ...]]:
    if turns and turns[-1].role == "assistant" and is_blank(turns[-1].text):
        return turns[:-1], ()
    return turns, answers


def can_be_learned(conversation: Conversation) -> bool:
    """Whether it ends with an answer, and no answer in it is missing: what training requires of a record."""
    turns = conversation.turns
    learned = [turn.text for turn in turns if turn.role == "assistant" and turn.supervised]
    return turns[-1].role == "assistant" and bool(learned) and not any(map(is_blank, learned))


def is_blank(text: str) -> bool:
    """Whether an answer is empty, or what somebody meant to replace by one."""
    return not text.strip() or _PLACEHOLDER.fullmatch(text.strip()) is not None


def _check_turns(record: Record, turns: Sequence[Turn], requires_answer: bool) -> None:
    if not turns:
        raise refusal(record, "no turns", remedy="Write a user's and an assistant's turn.", code="no_turns")
    _check_order(record, turns)
    if requires_answer and turns[-1].role != "assistant":
        remedy = "Add the answer to learn: the assistant's last turn, or answers to the question."
        raise refusal(record, "nothing answers the last user turn", remedy=remedy, code="no_answer")
    if requires_answer and not any(turn.role == "assistant" and turn.supervised for turn in turns):
        remedy = "Mark one answer at least to be learned from, or take the record out."
        raise refusal(record, "no turn of it is learned from", remedy=remedy, code="turn_flag")
    for position, turn in enumerate(turns):
        _check_content(record, turn, position, requires_answer)


def _check_order(record: Record, turns: Sequence[Turn]) -> None:
    roles = [turn.role for turn in turns]
    if "system" in roles[1:]:
        remedy = "Put the system's words into one turn before all others."
        raise refusal(
            record, f"turn {roles.index('system', 1)} is by the system", remedy=remedy, code="system_position"
        )
    parties = roles[1:] if roles[0] == "system" else roles
    if not parties or parties[0] != "user":
        raise refusal(record, "the first turn is not a user's", remedy="Begin with the user.", code="first_turn")
    for position in range(len(turns) - len(parties) + 1, len(turns)):
        if roles[position] == roles[position - 1]:
            problem = f"turns {position - 1} and {position} are both by the {roles[position]}"
            raise refusal(record, problem, remedy="Join them into one, or add the turn between.", code="order")


def _check_content(record: Record, turn: Turn, position: int, requires_answer: bool) -> None:
    if turn.role == "assistant" and turn.supervised and requires_answer and is_blank(turn.text):
        problem = f"turn {position}, an answer to learn, is {turn.text.strip()[:60]!r}"
        remedy = "Write the answer, or take the record out."
        raise refusal(record, problem, remedy=remedy, code="blank_answer")
    if turn.role == "user":
        refuse_unfilled(record, turn.text)
    if turn.role != "assistant" and not turn.text.strip() and not _slots([turn]):
        remedy = "Write what is said, or take the turn out."
        raise refusal(record, f"turn {position}, by the {turn.role}, is empty", remedy=remedy, code="empty_turn")


def _check_image_count(record: Record, turns: Sequence[Turn], images: Sequence[ImageRef]) -> None:
    slots = _slots(turns)
    if slots != len(images):
        problem = f"{slots} places for images (<image> in user turns, or image parts) and {len(images)} images"
        remedy = "Make the two numbers equal, or leave every place out to have the images before the first user turn."
        raise refusal(record, problem, remedy=remedy, code="image_count")


def _slots(turns: Iterable[Turn]) -> int:
    return sum(isinstance(part, ImageSlot) for turn in turns for part in turn.content)


def _id(record: Record) -> str:
    for key in ("id", "question_id"):
        if record.fields.get(key) is not None:
            return _name_of(record, record.fields[key], key)
    return f"{record.part}{record.index}"


def _image_id(record: Record, images: Sequence[ImageRef]) -> str | None:
    """The record's own, else its images' paths relative to the root, or their contents' digests.

    It tells which questions share an image: they are one cluster of any interval.
    """
    if record.fields.get("image_id") is not None:
        return _name_of(record, record.fields["image_id"], "image_id")
    root = resolved_folder(record.image_root) if record.image_root is not None else None
    names = []
    for ref in images:
        if ref.path is not None and root is not None:
            names.append(ref.path.relative_to(root).as_posix())
        elif ref.digest is not None:
            names.append(ref.digest[:16])
    return " ".join(names) if names and len(names) == len(images) else None


def _groups(record: Record, group_fields: Sequence[str]) -> Mapping[str, str]:
    groups = {key: value for key in _GROUP_KEYS if isinstance(value := record.fields.get(key), str)}
    for key in group_fields:
        if record.fields.get(key) is None:
            remedy = f"Its fields are {', '.join(map(repr, record.fields))}; correct the setting group_fields."
            raise refusal(record, f"no field {key!r} to group by", remedy=remedy, code="group_field")
        value = record.fields[key]
        groups[key] = str(value).lower() if isinstance(value, bool) else _name_of(record, value, key)
    return groups


def _name_of(record: Record, value: object, key: str) -> str:
    """A string, or a whole number as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    name = words(record, value, f"{key!r}")
    if not name.strip():
        raise refusal(record, f"{key!r} is empty", remedy="Write it, or leave the key out.", code="value")
    return name
