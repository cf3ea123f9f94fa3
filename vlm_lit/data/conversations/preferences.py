"""Preferences made from records, and the check that the two sides of each can be compared.

The one way from a `Record` in any accepted form to a `Preference`. Each side is read as a conversation, with all that
is checked of one; then the two must show the same images behind the same turns, and answer differently.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.conversations.placeholders import split_at_placeholders
from vlm_lit.data.conversations.preference_forms import SideRecords, side_records
from vlm_lit.data.conversations.record_keys import without_ignored
from vlm_lit.data.conversations.refusals import refusal
from vlm_lit.data.conversations.slots import Placeholders
from vlm_lit.errors import RecordError
from vlm_lit.schema import Conversation, Preference, Record, Turn


def to_preference(
    record: Record,
    *,
    prompt: str | None = None,
    system: str | None = None,
    group_fields: Sequence[str] = (),
    ignore_keys: Collection[str] = (),
    known_keys: Collection[str] = (),
    placeholders: Placeholders = "slots",
) -> Preference:
    """Read a record in any of the accepted forms; see `preference_forms.py`, and `to_conversation` for the arguments.

    Of each side the last turn alone is learned from, whatever answers stand before it.

    Raises:
        RecordError: the record cannot be used; its `code` starts with `preference.`, `conversation.`, `image.` or
            `path.`. The code `preference.tie` says that no pair can be made of its ratings.
    """
    found = side_records(without_ignored(record, ignore_keys))
    read = partial(
        to_conversation,
        prompt=prompt,
        system=system,
        requires_answer=True,
        group_fields=group_fields,
        ignore_keys=ignore_keys,
        known_keys=known_keys,
        placeholders=placeholders,
    )
    chosen = _side(found.names[0], found.chosen, read, own=False)
    rejected = _side(found.names[1], found.rejected, read, own=True)
    _check_pair(record, found, chosen, rejected)
    notes = tuple(dict.fromkeys((*chosen.notes, *rejected.notes, *found.notes)))
    # Equal images, and the bytes of a table's are held once.
    rejected = replace(rejected, images=chosen.images, notes=notes)
    return Preference(
        id=chosen.id,
        images=chosen.images,
        chosen=replace(chosen, notes=notes),
        rejected=rejected,
        file=record.file,
        record=record.name,
        notes=notes,
    )


def _side(name: str, record: Record, read: Callable[[Record], Conversation], *, own: bool) -> Conversation:
    """One side, its last turn alone to be learned from.

    Args:
        name: how a message calls it.
        record: the side as a record of its own.
        read: reads it.
        own: whether whatever is wrong is wrong with this side alone, for the other has been read.
    """
    try:
        side = read(record)
        *before, last = side.turns
        if not last.supervised:
            remedy = "Take the flag out, or name its key in ignore_keys."
            raise refusal(record, "its last turn is not to be learned from", remedy=remedy, code="turn_flag")
    except RecordError as error:
        if own or error.code in ("conversation.blank_answer", "conversation.no_answer", "conversation.turn_flag"):
            raise refusal(record, f"{name}: {error.problem}", remedy=error.remedy, code=error.code) from None
        raise
    turns = (replace(turn, supervised=turn.role != "assistant") for turn in before)
    return replace(side, turns=(*turns, last))


def _check_pair(record: Record, found: SideRecords, chosen: Conversation, rejected: Conversation) -> None:
    names = " and ".join(found.names)
    if chosen.images != rejected.images:
        remedy = "Both answers are about the same images: take the record out, or give both sides the same ones."
        raise refusal(record, f"{names} show different images", remedy=remedy, code="preference.images")
    for side, name in ((chosen, found.names[0]), (rejected, found.names[1])):
        if found.asked is not None and not _asks(side.turns, found.asked):
            remedy = "Make the two the same, or name prompt in ignore_keys."
            raise refusal(record, f"{name} answers another prompt than prompt", remedy=remedy, code="preference.prompt")
    if chosen.turns[:-1] != rejected.turns[:-1]:
        remedy = "The two may differ in the assistant's last turn only: take the record out, or make the rest the same."
        where = _first_difference(chosen.turns[:-1], rejected.turns[:-1])
        raise refusal(record, f"{names} answer different prompts ({where})", remedy=remedy, code="preference.prompt")
    if chosen.turns[-1].text.strip() == rejected.turns[-1].text.strip():
        remedy = "There is nothing to prefer: take the record out."
        problem = f"{names} are the same: {chosen.turns[-1].text.strip()[:60]!r}"
        raise refusal(record, problem, remedy=remedy, code="preference.identical")


def _asks(turns: Sequence[Turn], asked: str) -> bool:
    """Whether a text that a record has besides is the first or the last thing that its user says."""
    users = [turn.text.strip() for turn in turns if turn.role == "user"]
    words = "".join(piece for piece in split_at_placeholders(asked) if isinstance(piece, str)).strip()
    return words in (users[0], users[-1])


def _first_difference(one: Sequence[Turn], other: Sequence[Turn]) -> str:
    if len(one) != len(other):
        return f"of {len(one)} and {len(other)} turns"
    return f"turn {next(k for k, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])} differs"
