"""Accepted forms of a record, and the rewriting of each into one of three common forms.

A form is told by its keys, and is rewritten into one of three: turns under `conversations`, turns under `messages`, or
a `question` with its answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from vlm_lit.data.conversations.json_texts import listed, pair_in_text, with_turns_read
from vlm_lit.data.conversations.question_prompt import fields_of
from vlm_lit.data.conversations.record_images import IMAGE_NAME, image_key_of
from vlm_lit.data.conversations.refusals import empty, refusal, shown
from vlm_lit.data.conversations.turn_entries import is_answer, is_turn
from vlm_lit.data.conversations.turn_flags import FLAGS
from vlm_lit.schema import Record

ACCEPTED_FORMS: Final = (
    "Accepted are turns under conversations, conversation or messages ({from, value} or {role, content}), texts "
    "({user, assistant}), prompt and completion, question and answer or answers or label, question_id and text (a "
    "question), query and response (and history), instruction and output (and input), prefix and suffix, or an image "
    "with a caption or text; the setting `columns` renames keys, and the setting `prompt` makes a question of other "
    "fields."
)

TURN_KEYS: Final = ("conversations", "messages", "conversation", "texts")
QUESTION_KEYS: Final = ("question", "query", "instruction", "prompt", "prefix")
ANSWER_KEYS: Final = ("answers", "answer", "label", "multiple_choice_answer")
OTHER_ANSWER_KEYS: Final = ("response", "output", "completion", "suffix")
CAPTION_KEYS: Final = ("caption", "text")
_PARTNER: Final = {"query": "response", "instruction": "output", "prompt": "completion", "prefix": "suffix"}


@dataclass(frozen=True, kw_only=True)
class Formed:
    """A record rewritten, and the keys of the original that its turns and answers came from.

    `turns` is the key that holds its turns, None for a question. `always_slots` says that `<image>` in its words is a
    place whether or not the record has images. `caption` says that nothing is asked.
    """

    record: Record
    turns: str | None
    used: frozenset[str]
    always_slots: bool = False
    caption: bool = False


def formed(record: Record, prompt: str | None) -> Formed:
    """Read which form a record is in.

    Raises:
        RecordError: two forms at once, or turns that are written as text and cannot be read.
    """
    record = with_turns_read(record)
    lists = _lists(record)
    if len(lists) > 1:
        remedy = "Keep one of the two keys."
        raise refusal(record, f"both {lists[0]} and {lists[1]}", remedy=remedy, code="ambiguous")
    if not lists:
        return _question(record, prompt)
    if prompt is not None:
        remedy = "Set prompt to null: it fills in questions, and these turns are already written."
        raise refusal(record, f"a prompt for a record with {lists[0]}", remedy=remedy, code="prompt_unused")
    _refuse_second_form(record, lists[0])
    return _turns(record, lists[0])


def _lists(record: Record) -> list[str]:
    """The keys that hold turns; one that holds an empty list counts where no other key asks anything."""
    there = [key for key in TURN_KEYS if record.fields.get(key) is not None]
    if isinstance(record.fields.get("prompt"), list | tuple) or (not there and _completed_by_turns(record)):
        there.append("prompt")
    full = [key for key in there if not empty(record.fields[key])]
    asks = any(not empty(record.fields.get(key)) for key in (*QUESTION_KEYS, *CAPTION_KEYS))
    return full if full or asks else there[:1]


def _completed_by_turns(record: Record) -> bool:
    completion = _each(record.fields.get("completion"))
    return record.fields.get("prompt") is not None and bool(completion) and all(map(is_turn, completion))


def _refuse_second_form(record: Record, key: str) -> None:
    """Turns beside a whole question and answer of another form, unless the turns say the same."""
    for asks, answers in [("question", "answer"), *_PARTNER.items()]:
        if key == asks or empty(record.fields.get(asks)) or empty(record.fields.get(answers)):
            continue
        said = json.dumps(record.fields[key], ensure_ascii=False, default=str)
        pair = [record.fields[asks], record.fields[answers]]
        if not all(isinstance(text, str) and json.dumps(text, ensure_ascii=False)[1:-1] in said for text in pair):
            problem = f"both {key} and {asks} with {answers}"
            remedy = "Keep one of the two forms, or name the other's keys in ignore_keys."
            raise refusal(record, problem, remedy=remedy, code="ambiguous")


def _turns(record: Record, key: str) -> Formed:
    entries = listed(record, key)
    used = {key}
    if key == "texts" or (key != "prompt" and _are_pairs(entries)):
        entries = _from_pairs(record, key, entries)
    if key == "prompt":
        used.add("completion")
        entries = _with_completion(record, entries)
    target = "conversations" if key in ("conversations", "conversation") else "messages"
    fields = {name: value for name, value in record.fields.items() if name not in used} | {target: entries}
    always = key == "conversations" and not any(isinstance(e, Mapping) and "role" in e for e in _each(entries))
    return Formed(record=replace(record, fields=fields), turns=target, used=frozenset(used), always_slots=always)


def _each(entries: object) -> Sequence[object]:
    return entries if isinstance(entries, list | tuple) else ()


def _are_pairs(entries: object) -> bool:
    each = _each(entries)
    return bool(each) and all(isinstance(e, Mapping) and ("user" in e or "assistant" in e) for e in each)


def _from_pairs(record: Record, key: str, entries: object) -> object:
    """`[{user, assistant}]`, as The Cauldron and FineVision have it, as messages."""
    if not isinstance(entries, list | tuple):
        return entries
    turns: list[object] = []
    for position, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            turns.append(entry)
            continue
        missing = [role for role in ("user", "assistant") if role not in entry]
        if missing and (missing != ["assistant"] or position < len(entries) - 1):
            problem = f"{key} {position} has no {' and no '.join(missing)}; its keys are {', '.join(map(repr, entry))}"
            raise refusal(record, problem, remedy="Give each 'user' and 'assistant'.", code="turn_keys")
        more = {name: value for name, value in entry.items() if name not in ("user", "assistant", "system")}
        if not empty(system := entry.get("system")) and {"role": "system", "content": system} not in turns[:1]:
            turns.append({"role": "system", "content": system})  # refused where it is not the first turn
        asked = {"role": "user", "content": entry["user"]}
        if entry.get("assistant") is not None:
            turns += [asked, {"role": "assistant", "content": entry["assistant"], **more}]
        else:  # its flags are about an answer that is not there
            turns.append({**asked, **{name: value for name, value in more.items() if name not in FLAGS}})
    return turns


def _with_completion(record: Record, entries: object) -> object:
    """A prompt's messages and the completion's; of these two only the completion is learned from, as in TRL."""
    completion = listed(record, "completion")
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    if not isinstance(entries, list | tuple) or not isinstance(completion, list | tuple | None):
        found = shown(completion if isinstance(entries, list | tuple) else entries)
        remedy = "Write both as lists of messages, or both as text."
        raise refusal(record, f"prompt or completion is {found}", remedy=remedy, code="turns_type")
    return [*map(_unlearned, entries), *(completion or ())]


def _unlearned(entry: object) -> object:
    """An entry of a prompt, an answer in it not learned from unless its own `train` says so; null says nothing."""
    if not isinstance(entry, Mapping) or not is_answer(entry) or entry.get("train") is not None:
        return entry
    return {**entry, "train": False}


def _question(record: Record, prompt: str | None) -> Formed:
    named = fields_of(prompt) if prompt is not None else frozenset({"question"})
    fields = dict(record.fields)
    used = set(named & fields.keys())
    asks = _one_question(record, named)
    if asks is not None:
        used.add(asks)
        fields["question"] = record.fields[asks]
        if asks == "instruction" and not empty(record.fields.get("input")) and "input" not in named:
            used.add("input")
            fields["question"] = _joined(record)
    caption = False
    answers = _one_answer(record, asks, named)
    if answers is None and _captioned(record, asks, prompt):
        answers = next((k for k in CAPTION_KEYS if not empty(record.fields.get(k)) and k not in named), None)
        caption = answers is not None and prompt is None
    if answers is not None:
        used.add(answers)
        fields |= {"answer": record.fields[answers]} if answers not in ANSWER_KEYS else {}
    if caption:
        _refuse_pair(record)
        fields["question"] = ""
    return Formed(record=replace(record, fields=fields), turns=None, used=frozenset(used), caption=caption)


def _refuse_pair(record: Record) -> None:
    """Refuse a text that is a pair of answers; it would be learned as a caption."""
    if pair_in_text(record) is not None:
        remedy = "Pairs of answers are trained on by PreferenceModule with PreferenceDataModule."
        problem = "its text is JSON with chosen and rejected, and preferences are not supported"
        raise refusal(record, problem, remedy=remedy, code="key")


def _one_question(record: Record, named: frozenset[str]) -> str | None:
    """The key that holds the question, where it is not `question` itself or the template does without."""
    if "question" not in named:
        return None
    there = [key for key in QUESTION_KEYS if record.fields.get(key) is not None]
    whole = [key for key in there if key == "question" or record.fields.get(_PARTNER[key]) is not None]
    two = whole if whole else there
    if len(two) > 1:
        remedy = "Keep one of the two, or name the other's keys in ignore_keys."
        raise refusal(record, f"both {two[0]} and {two[1]}", remedy=remedy, code="ambiguous")
    if not two and _is_question_file(record):
        return "text"
    return two[0] if two else None


def _is_question_file(record: Record) -> bool:
    """Whether `text` is a question, as in LLaVA's and POPE's files of questions: it has a `question_id`."""
    text, caption = record.fields.get("text"), record.fields.get("caption")
    return not empty(record.fields.get("question_id")) and not empty(text) and empty(caption)


def _joined(record: Record) -> object:
    """An instruction and its input, on lines of their own, as LLaMA-Factory joins them."""
    instruction, more = record.fields["instruction"], record.fields["input"]
    if not isinstance(instruction, str) or not isinstance(more, str):
        found = shown(more if isinstance(instruction, str) else instruction)
        raise refusal(record, f"instruction or input is {found}", remedy="Write both as strings.", code="value")
    return f"{instruction}\n{more}" if instruction else more


def answer_key(record: Record, keys: Sequence[str] = ANSWER_KEYS) -> str | None:
    """The first of the answer keys that holds any; where all are empty, the first that is there, to be refused."""
    there = [key for key in keys if record.fields.get(key) is not None]
    return next((key for key in there if not empty(record.fields[key])), there[0] if there else None)


def _one_answer(record: Record, asks: str | None, named: frozenset[str]) -> str | None:
    own = answer_key(record)
    if own is not None:
        return own
    there = [key for key in OTHER_ANSWER_KEYS if record.fields.get(key) is not None and key not in named]
    if asks in _PARTNER and _PARTNER[asks] in there:
        return _PARTNER[asks]
    if len(there) > 1:
        remedy = "Keep one of the two, or name the other in ignore_keys."
        raise refusal(record, f"both {there[0]} and {there[1]}", remedy=remedy, code="ambiguous")
    return there[0] if there else None


def _captioned(record: Record, asks: str | None, prompt: str | None) -> bool:
    """Whether a picture's caption is all that the record says, or what answers the template."""
    if asks is not None or (prompt is not None and "question" in fields_of(prompt)):
        return False
    return image_key_of(record) is not None or not empty(record.fields.get(IMAGE_NAME))
