"""Accepted forms of a pair's record, each rewritten into two records with one answer each.

A form is told by its keys. `rejected_conversations`, `rejected_messages` and `rejected_response` stand beside a whole
conversation whose last answer is the chosen one. `chosen` and `rejected` are texts, single turns, or lists of turns:
the answer alone behind the record's own prompt or question, or a conversation with its prompt in it; so are OpenAI's
`preferred_output` and `non_preferred_output` behind `input`. `completions` are several rated answers, of which a pair
is made. A `text` may hold question and answers as JSON, and every list of turns may be JSON text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vlm_lit.data.conversations.json_texts import listed, pair_in_text, with_turns_read
from vlm_lit.data.conversations.rated_answers import COMPLETIONS, rated_pair
from vlm_lit.data.conversations.record_forms import ANSWER_KEYS, TURN_KEYS
from vlm_lit.data.conversations.record_images import image_key_of, images_under
from vlm_lit.data.conversations.refusals import digits_or_words, empty, refusal, shown
from vlm_lit.data.conversations.turn_entries import is_answer, written_turns
from vlm_lit.errors import RecordError
from vlm_lit.schema import Note, Record

CHOSEN: Final = "chosen"
REJECTED: Final = "rejected"
PAIR_FORMS: Final = (
    "Accepted are chosen and rejected (texts, or lists of turns) beside a prompt, a question or turns that end with a "
    "user's; rejected_conversations beside conversations; rejected_messages or rejected_response beside messages; "
    "preferred_output and non_preferred_output beside input; completions with ratings; or a text that is JSON of "
    "{question, chosen, rejected}. The setting `columns` renames keys."
)

_OTHER_REJECTED: Final[Mapping[str, str]] = {
    "rejected_conversations": "conversations",  # POVID
    "rejected_messages": "messages",  # ms-swift
}
_RESPONSE: Final = "rejected_response"  # ms-swift
_OUTPUTS: Final = ("preferred_output", "non_preferred_output")  # OpenAI
_IMAGES: Final = "rejected_images"


@dataclass(frozen=True, kw_only=True)
class SideRecords:
    """A pair's record as two records of the forms that conversations are read from.

    `names` are the keys that a message calls the sides by. `asked` is a text that both must answer, where the record
    has it besides. `notes` say what was not used.
    """

    chosen: Record
    rejected: Record
    names: tuple[str, str] = (CHOSEN, REJECTED)
    asked: str | None = None
    notes: tuple[Note, ...] = ()


def is_pair(record: Record) -> bool:
    """Whether a record has a key of one of the forms of pairs."""
    keys = (CHOSEN, REJECTED, *_OTHER_REJECTED, _RESPONSE, COMPLETIONS, *_OUTPUTS)
    return any(record.fields.get(key) is not None for key in keys) or pair_in_text(record) is not None


def side_records(record: Record) -> SideRecords:
    """Both sides of a record.

    Raises:
        RecordError: it is no pair, lacks a side, or has one of a wrong type.
    """
    record = _with_text_read(_with_lists_read(record))
    _refuse_other_images(record)
    keys = (*_OTHER_REJECTED, _RESPONSE, REJECTED, COMPLETIONS, _OUTPUTS[1])
    forms = [key for key in keys if not empty(record.fields.get(key))]
    if forms and REJECTED not in forms and not empty(record.fields.get(CHOSEN)):
        forms.append(CHOSEN)
    forms = forms or [key for key in (*keys, CHOSEN) if key in record.fields][:1]
    if not forms:
        named = ", ".join(map(repr, record.fields)) or "none"
        problem = f"no pair of answers in it; its keys are {named}"
        raise refusal(record, problem, remedy=PAIR_FORMS, code="preference.form")
    if len(forms) > 1:
        remedy = "Keep one of the two, or name the other in ignore_keys."
        raise refusal(record, f"both {forms[0]} and {forms[1]}", remedy=remedy, code="preference.ambiguous")
    if forms[0] == _OUTPUTS[1]:
        return _outputs(record)
    if forms[0] == COMPLETIONS:
        pair = rated_pair(record)
        given = _without(record, (COMPLETIONS,))
        return replace(_beside(given, pair.chosen, pair.rejected), notes=pair.notes)  # texts, which give no note
    if forms[0] in _OTHER_REJECTED:
        return _whole(record, _OTHER_REJECTED[forms[0]], forms[0])
    if forms[0] == _RESPONSE:
        return _response(record)
    for key in (CHOSEN, REJECTED):
        _refuse_missing(record, key)
    return _beside(_without(record, (CHOSEN, REJECTED)), record.fields[CHOSEN], record.fields[REJECTED])


def _with_lists_read(record: Record) -> Record:
    record = with_turns_read(record)
    keys = [key for key in (*TURN_KEYS, *_OTHER_REJECTED) if isinstance(record.fields.get(key), str)]
    return _with(record, **{key: listed(record, key) for key in keys})


def _with_text_read(record: Record) -> Record:
    """The record with the question and answers that its `text` holds as JSON, as RLHF-V is published."""
    pair = pair_in_text(record)
    if pair is None:
        return record
    twice = [key for key in pair if not empty(record.fields.get(key)) and record.fields[key] != pair[key]]
    if twice:
        problem = f"both {twice[0]} and another {twice[0]} in the JSON of text"
        raise refusal(record, problem, remedy="Keep one of the two.", code="preference.ambiguous")
    return replace(record, fields={**_without(record, ("text",)).fields, **pair})


def _refuse_missing(record: Record, key: str) -> None:
    if empty(record.fields.get(key)):
        problem = f"{key} is {'missing' if record.fields.get(key) is None else 'empty'}"
        remedy = "Write the answer, or take the record out."
        raise refusal(record, problem, remedy=remedy, code="preference.missing")


def _refuse_other_images(record: Record) -> None:
    """Refuse a rejected side that is about other pictures than the chosen one."""
    if empty(record.fields.get(_IMAGES)):
        return
    key = image_key_of(record)
    own = [] if key is None else images_under(record, key)
    if images_under(record, _IMAGES) != own:
        problem = f"{_IMAGES} shows other images than {key}" if key else f"{_IMAGES} without images"
        remedy = f"Both answers are about the same images: take the record out, or name {_IMAGES} in ignore_keys."
        raise refusal(record, problem, remedy=remedy, code="preference.images")


def _without(record: Record, keys: Collection[str]) -> Record:
    left = {key: value for key, value in record.fields.items() if key not in (*keys, _IMAGES)}
    return replace(record, fields=left)


def _with(record: Record, **fields: object) -> Record:
    return replace(record, fields={**record.fields, **fields})


def _whole(record: Record, chosen: str, rejected: str) -> SideRecords:
    """Two whole conversations, each under a key of its own."""
    for key in (chosen, rejected):
        _refuse_missing(record, key)
    rest = _without(record, (chosen, rejected))
    sides = (_with(rest, **{chosen: record.fields[key]}) for key in (chosen, rejected))
    return SideRecords(chosen=next(sides), rejected=next(sides), names=(chosen, rejected))


def _response(record: Record) -> SideRecords:
    """A conversation, or a question with its response, and another text for its last answer."""
    _refuse_missing(record, _RESPONSE)
    text = digits_or_words(record, record.fields[_RESPONSE], _RESPONSE)
    rest = _without(record, (_RESPONSE,))
    if not empty(rest.fields.get("response")):
        return SideRecords(chosen=rest, rejected=_with(rest, response=text), names=("response", _RESPONSE))
    _refuse_missing(record, "messages")
    entries = record.fields["messages"]
    if not isinstance(entries, list | tuple) or not is_answer(entries[-1]):
        remedy = "Write them as a list that ends with the chosen answer."
        raise refusal(record, "messages do not end with an answer", remedy=remedy, code="preference.missing")
    other = [*entries[:-1], {"role": "assistant", "content": text}]
    return SideRecords(chosen=rest, rejected=_with(rest, messages=other), names=("messages", _RESPONSE))


def _outputs(record: Record) -> SideRecords:
    """Two outputs behind an `input` of messages, as OpenAI has them; the input may hold tools, which are refused."""
    for key in _OUTPUTS:
        _refuse_missing(record, key)
    asked = record.fields.get("input")
    if not isinstance(asked, Mapping) or empty(asked.get("messages")):
        remedy = "Write {messages: [...]}, the turns that both outputs answer."
        raise refusal(record, f"input is {shown(asked)} without messages", remedy=remedy, code="preference.form")
    rest = _without(record, ("input", *_OUTPUTS))
    if twice := [key for key in asked if not empty(rest.fields.get(key))]:
        problem = f"both {twice[0]} and {twice[0]} in input"
        raise refusal(record, problem, remedy="Keep one of the two.", code="preference.ambiguous")
    given = _with_lists_read(replace(rest, fields={**rest.fields, **asked}))
    chosen, rejected = (record.fields[key] for key in _OUTPUTS)
    return _beside(given, chosen, rejected, _OUTPUTS)


def _beside(
    record: Record, chosen: object, rejected: object, names: tuple[str, str] = (CHOSEN, REJECTED)
) -> SideRecords:
    """The two answers behind what the rest of the record asks, or as conversations of their own."""
    sides = {name: _turns_of(record, side, name) for name, side in zip(names, (chosen, rejected), strict=True)}
    whole = [isinstance(side, list) and not is_answer(side[0]) for side in sides.values()]
    if all(whole):
        return replace(_conversations(record, *sides.values()), names=names)
    if any(whole):
        remedy = "Write both as the answer alone, or both with the prompt before it."
        problem = f"the prompt stands in {names[0] if whole[0] else names[1]} alone"
        raise refusal(record, problem, remedy=remedy, code="preference.prompt")
    if isinstance(record.fields.get("prompt"), list | tuple):
        _refuse_other(record, "completion", (chosen, sides[names[0]]))
    notes: list[Note] = []
    found = [_answered(record, side, key, notes) for key, side in sides.items()]
    return SideRecords(chosen=found[0], rejected=found[1], names=names, notes=tuple(notes))


def _refuse_other(record: Record, key: str, said: Sequence[object]) -> None:
    """Refuse a key beside both answers that holds none of what is said already; it would be read past."""
    value = record.fields.get(key)
    value = list(value) if isinstance(value, tuple) else value
    if not empty(value) and value not in said:
        remedy = f"Keep one of the two, or name {key} in ignore_keys."
        problem = f"{key} says something else than {CHOSEN}, beside {CHOSEN} and {REJECTED}"
        raise refusal(record, problem, remedy=remedy, code="preference.ambiguous")


def _turns_of(record: Record, side: object, key: str) -> str | list[object]:
    """A side as its text, or as a list of turns."""
    if isinstance(side, Mapping):
        return [side]
    if isinstance(side, list | tuple) and side and isinstance(side[0], Mapping):
        return list(side)
    if isinstance(side, str | int) and not isinstance(side, bool):
        return digits_or_words(record, side, key)
    remedy = "Write the answer as a string, or as a list of turns {role, content}."
    raise refusal(record, f"{key} is {shown(side)}", remedy=remedy, code="preference.type")


def _conversations(record: Record, chosen: str | list[object], rejected: str | list[object]) -> SideRecords:
    """Sides with the prompt in them; a `prompt` or `messages` besides must say the same."""
    _refuse_other(record, "messages", (chosen, chosen[:-1]))
    prompt = record.fields.get("prompt")
    asked, rest = None, record
    if isinstance(prompt, list | tuple):
        for key, side in ((CHOSEN, chosen), (REJECTED, rejected)):
            if not isinstance(side, list | tuple) or list(side[: len(prompt)]) != list(prompt):
                remedy = "Leave the prompt out of both answers, or out of the record."
                problem = f"{key} begins with another prompt than the record's"
                raise refusal(record, problem, remedy=remedy, code="preference.prompt")
        rest = _without(record, ("prompt",))
    elif isinstance(prompt, str) and prompt.strip():
        asked, rest = prompt, _without(record, ("prompt",))
    return SideRecords(chosen=_with(rest, messages=chosen), rejected=_with(rest, messages=rejected), asked=asked)


def _answered(record: Record, side: str | list[object], name: str, notes: list[Note]) -> Record:
    """The record with one answer, in whichever of the forms of conversations it has its prompt.

    Args:
        record: the record without its answers.
        side: the answer.
        name: its key.
        notes: takes what of it is not used.
    """
    if isinstance(record.fields.get("prompt"), list | tuple):
        return _with(record, completion=side)
    turns = [{"role": "assistant", "content": side}] if isinstance(side, str) else side
    for key in TURN_KEYS:
        entries = record.fields.get(key)
        if isinstance(entries, list | tuple) and entries:
            if is_answer(entries[-1]):
                remedy = f"Let {key} end with the user's turn that both answer."
                problem = f"{key} end with an answer of their own, beside {name}"
                raise refusal(record, problem, remedy=remedy, code="preference.ambiguous")
            return _with(record, **{key: [*entries, *turns]})
    return _with_answer(record, side if isinstance(side, str) else _text_of(record, side, name, notes))


def _text_of(record: Record, turns: Sequence[object], key: str, notes: list[Note]) -> str:
    """The words of a single turn that answers a question written as text."""
    if len(turns) > 1:
        remedy = "Write the prompt as a list of turns as well, or the answers as strings."
        raise refusal(record, "its answers are turns, and its prompt is none", remedy=remedy, code="preference.type")
    try:
        (turn,) = written_turns(record, turns, key, notes)
    except RecordError as error:
        raise refusal(record, f"{key}: {error.problem}", remedy=error.remedy, code=error.code) from None
    if not turn.supervised:
        remedy = "Take the flag out, or name its key in ignore_keys."
        raise refusal(record, f"{key}: its turn is not to be learned from", remedy=remedy, code="turn_flag")
    return "".join(part for part in turn.parts if isinstance(part, str))


def _with_answer(record: Record, answer: object) -> Record:
    """A question with this answer to learn; the accepted answers that it has besides stay what it is scored against."""
    given = next((key for key in ANSWER_KEYS if not empty(record.fields.get(key))), None)
    if given is None:
        return _with(record, answer=answer)
    return _with(_without(record, ANSWER_KEYS), answers=record.fields[given], multiple_choice_answer=answer)
