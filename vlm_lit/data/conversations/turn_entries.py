"""Entries of a record's turns: the role of each, and its words.

An entry has a role (`from` or `role`) and words (`value` or `content`), which are a string or a list of parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from vlm_lit.data.conversations.refusals import digits_or_words, empty, refusal, shown, words
from vlm_lit.data.conversations.slots import Own, Typed, WrittenTurn
from vlm_lit.data.conversations.turn_flags import FLAGS, UNSUPPORTED, flag_of
from vlm_lit.schema import Note, Record, Role

_ROLE_KEYS: Final = ("from", "role")
_CONTENT_KEYS: Final = ("value", "content")
_TEXT_PARTS: Final = ("text", "input_text", "output_text")
_IMAGE_PARTS: Final = ("image", "image_url", "input_image")
_WRITTEN_PARTS: Final = re.compile(r"\s*\[\s*\{\s*['\"]type['\"]\s*:")
_OTHER_PARTS: Final = ("video", "video_url", "audio", "audio_url", "input_audio", "input_video", "file", "input_file")

ROLES: Final[Mapping[str, Role]] = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatbot", "chatgpt", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Whose turn it is, by the name in small letters: those of ShareGPT and LLaVA, of chat APIs, of Gemma, and others."""

_CARRIES: Final = (
    *("tool_calls", "function_call", "tool_call_id", "reasoning_content", "reasoning", "thinking", "prefix"),
    *("images", "image", "videos", "video", "audios", "audio"),
)
"""Keys of a turn that hold something to train on."""

_HARMLESS: Final = ("id", "name", "source", "timestamp", "turn", "index", "lang", "language", "model", "refusal")


def written_turns(record: Record, entries: object, key: str, notes: list[Note]) -> list[WrittenTurn]:
    """The turns of a list of entries.

    Args:
        record: whose turns they are.
        entries: the list.
        key: the record's key that holds it.
        notes: takes what of the entries is not used.

    Raises:
        RecordError: no list of entries, or one of them cannot be read.
    """
    turns: list[WrittenTurn] = []
    for position, entry in enumerate(_checked(record, entries, key)):
        what = f"turn {position}"
        said, role_key, content_key = _keys(record, entry, what)
        role = _role(record, entry[role_key], what)
        parts = _parts(record, entry[content_key], role, f"the {content_key} of {what}", notes)
        turns.append(WrittenTurn(role=role, parts=parts, supervised=flag_of(record, entry, role, what)))
        notes += _unused(record, said, what)
    return turns


def _keys(record: Record, entry: Mapping[str, object], what: str) -> tuple[Mapping[str, object], str, str]:
    """What of a turn is left besides its role and its words, and the keys that hold these two."""
    found = [[key for key in keys if entry.get(key) is not None] for keys in (_ROLE_KEYS, _CONTENT_KEYS)]
    for keys in found:
        if len(keys) > 1:
            problem = f"{what} has both {keys[0]} and {keys[1]}"
            raise refusal(record, problem, remedy="Keep one of the two keys.", code="ambiguous")
    there = [next((key for key in keys if key in entry), None) for keys in (_ROLE_KEYS, _CONTENT_KEYS)]
    role_key, content_key = (keys[0] if keys else other for keys, other in zip(found, there, strict=True))
    if role_key is None or content_key is None:
        wanted = [pair for pair, key in ((_ROLE_KEYS, role_key), (_CONTENT_KEYS, content_key)) if key is None]
        problem = f"{what} has no {' and no '.join(' or '.join(map(repr, pair)) for pair in wanted)}"
        problem += f"; its keys are {', '.join(map(repr, entry))}"
        remedy = "Give each turn 'from' and 'value', or 'role' and 'content'."
        raise refusal(record, problem, remedy=remedy, code="turn_keys")
    left = {
        key: value for key, value in entry.items() if key not in (*_ROLE_KEYS, *_CONTENT_KEYS, *FLAGS, *UNSUPPORTED)
    }
    return left, role_key, content_key


def _unused(record: Record, left: Mapping[str, object], what: str) -> Iterator[Note]:
    for key, value in left.items():
        if empty(value) or key in _HARMLESS:
            continue
        if key in _CARRIES:
            if value is False:  # Mistral's `prefix`
                continue
            remedy = f"Put what it says into the turn's words or the record's images, or name {key} in ignore_keys."
            raise refusal(record, f"{what} has {key}, which is not read", remedy=remedy, code="turn_key")
        yield Note(kind="unused", about=f"{key} of a turn")


def _parts(record: Record, content: object, role: Role, what: str, notes: list[Note]) -> Sequence[str | Typed | Own]:
    if not isinstance(content, Sequence) or isinstance(content, str | bytes):
        text = digits_or_words(record, content, what) if role == "assistant" else words(record, content, what)
        if _WRITTEN_PARTS.match(text):
            notes.append(Note(kind="text", about=f"a {role}'s words that begin as a list of parts stay text"))
        return [Typed(text) if role == "user" else text]
    parts = [_part(record, part, f"part {k} of {what}", notes) for k, part in enumerate(content)]
    if any(isinstance(read, str) and not empty(part.get("index")) for part, read in zip(content, parts, strict=True)):
        parts = [Own(part.source) if isinstance(part, Own) else part for part in parts]  # these number every part
    if not any(isinstance(part, Own) for part in parts):
        return [Typed(part) if role == "user" and isinstance(part, str) else part for part in parts]
    if role != "user":
        remedy = "Move the image to a user message."
        raise refusal(record, f"{what}, by the {role}, holds an image", remedy=remedy, code="image_role")
    return parts


def _part(record: Record, part: object, where: str, notes: list[Note]) -> str | Own:
    """One part of a turn's content: its words, or its image."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(part, Mapping):
        if kind is None:
            kind = next((k for k in (*_TEXT_PARTS[:1], *_IMAGE_PARTS[:2]) if part.get(k) is not None), None)
        keys = {"text": ("text", "value", "content")}.get("text" if kind in _TEXT_PARTS else "", ())
        if kind in _TEXT_PARTS:
            key = next((key for key in keys if part.get(key) is not None), "text")
            notes += _unused_of_part(part, (key,))
            return words(record, part.get(key), where)
        if kind in _IMAGE_PARTS:
            key, source = _part_source(part)
            index = _index(part.get("index")) if source is None else None
            notes += _unused_of_part(part, (key,))
            if source is None and index is None and not empty(part.get("index")):
                notes.append(Note(kind="unused", about="index of a part"))
            return Own(source, index)
    remedy = "Write {type: text, text}, {type: image, image} or {type: image_url, image_url}."
    if kind in _OTHER_PARTS:
        remedy = "Only images and words are read: take it out."
    raise refusal(record, f"{where} has the type {shown(kind)}", remedy=remedy, code="part_type")


def _unused_of_part(part: Mapping[str, object], used: tuple[str, ...]) -> Iterator[Note]:
    for key, value in part.items():
        if key not in (*used, "type", "detail", "index", "id") and not empty(value):
            yield Note(kind="unused", about=f"{key} of a part")


def _index(value: object) -> int | None:
    """Which image, where a part says so by a whole number; tables write whole numbers beside empty ones as floats."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return int(value) if value >= 0 and value == value // 1 else None


def _part_source(part: Mapping[str, object]) -> tuple[str, object]:
    """An image part's own image, and under which key; None where the record's images hold it."""
    for key in ("image", "image_url", "path", "url", "value", "source", "base64", "data"):
        value = part.get(key)
        if empty(value):
            continue
        if isinstance(value, Mapping):  # of chat APIs: {url}, {type: base64, media_type, data}
            value = next((value[k] for k in ("url", "data") if not empty(value.get(k))), value)
        return key, value
    return "image", None


def _checked(record: Record, entries: object, key: str) -> Sequence[Mapping[str, object]]:
    if not isinstance(entries, list | tuple):
        remedy = "Write a list of objects, one a turn."
        raise refusal(record, f"{key} is a {type(entries).__name__}", remedy=remedy, code="turns_type")
    for position, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            problem = f"turn {position} is a {type(entry).__name__}"
            raise refusal(record, problem, remedy="Write it as an object.", code="turn_type")
    return entries


def is_answer(entry: object) -> bool:
    """Whether an entry of a list of turns is the assistant's."""
    names = [entry.get(key) for key in _ROLE_KEYS] if isinstance(entry, Mapping) else []
    return "assistant" in map(_known_role, names)


def is_turn(entry: object) -> bool:
    """Whether an object has the keys of a turn: whose it is, by a name that is known or beside words."""
    if not isinstance(entry, Mapping):
        return False
    names = [entry[key] for key in _ROLE_KEYS if key in entry]
    return bool(names) and (any(map(_known_role, names)) or any(key in entry for key in _CONTENT_KEYS))


def _known_role(name: object) -> Role | None:
    return ROLES.get(name.strip().lower()) if isinstance(name, str) else None


def _role(record: Record, name: object, what: str) -> Role:
    role = _known_role(name)
    if role is None:
        problem = f"{what} has the unknown role {shown(name)}"
        raise refusal(record, problem, remedy=f"Use one of {', '.join(ROLES)}.", code="role")
    return role
