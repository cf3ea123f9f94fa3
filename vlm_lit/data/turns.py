"""How does each accepted form of record write down its turns?

LLaVA's `conversations`, the `messages` of chat APIs, and the `question` of visual question answering each give
a `Draft`: turns with their image slots, and the images those slots stand for. Whether the turns make sense
together is judged afterwards, in `conversations.py`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

from vlm_lit.data.choices import CHOICES, MOST_CHOICES, as_lines
from vlm_lit.data.image_paths import ImageProblem
from vlm_lit.data.images import to_image_ref
from vlm_lit.data.numbered_images import numbered_images, shown_images, split_at_markers
from vlm_lit.schema import IMAGE, ImageRef, ImageSlot, Part, Record, RecordError, Role, Turn

ACCEPTED_FORMS: Final = (
    "Accepted are LLaVA's {conversations: [{from, value}], image}, chat {messages: [{role, content}], images}, "
    "and {question, answers or answer or label, image}; the setting `columns` renames keys, and the setting `prompt` "
    "makes a question of other fields."
)

IMAGE_PLACEHOLDER: Final = "<image>"
"""What LLaVA's files write where an image goes (`DEFAULT_IMAGE_TOKEN` in llava/constants.py)."""

DEFAULT_PROMPT: Final = "{question}"

# Templates put their own line break beside an image, so the one the file writes there goes, as in LLaVA.
_SLOT: Final = re.compile(r"\r?\n<image>(?:\r?\n)?\Z|<image>(?:\r?\n)?")

_LLAVA_ROLES: Final[Mapping[str, Role]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_CHAT_ROLES: Final[Mapping[str, Role]] = {"user": "user", "assistant": "assistant", "system": "system"}


_Piece: TypeAlias = tuple[str, str | None, str | None, str | None]
"""Literal text, and the field behind it with its format and conversion (`string.Formatter.parse`)."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Turns as the record has them, and its images in the order of the slots."""

    turns: Sequence[Turn]
    images: Sequence[ImageRef]


def refusal(record: Record, problem: str, *, remedy: str, code: str) -> RecordError:
    """A `RecordError` about this record; `code` continues `conversation.`, or is whole where it holds a dot."""
    whole = code if "." in code else f"conversation.{code}"
    return RecordError(problem, remedy=remedy, file=record.file, record=record.name, code=whole)


def draft(record: Record, prompt: str | None) -> Draft:
    """Read the turns of a record in whichever accepted form it is. A question's answer is not among them.

    A template's fields are written `{name}`, or `{name|words}` with the words to use where the field is empty. Without
    `{question}` in it, the record needs no question. A list is written with commas, `{choices}` as lines `A. red`.
    Of a record with `image_1`, `image_2`, ... and no other images, `<image 2>` is the place of the second; one that is
    not named is not shown, and all stand at the start where none is.

    Raises:
        RecordError: no accepted form, or a part of it has the wrong shape.
    """
    forms = [key for key in ("conversations", "messages") if record.fields.get(key) is not None]
    if len(forms) == 2:
        remedy = "Keep one of the two keys."
        raise refusal(record, "both conversations and messages", remedy=remedy, code="ambiguous")
    if forms and prompt is not None:
        remedy = "Set prompt to null: it fills in questions, and these turns are already written."
        raise refusal(record, f"a prompt for a record with {forms[0]}", remedy=remedy, code="prompt_unused")
    if not forms:
        return _question(record, DEFAULT_PROMPT if prompt is None else prompt)
    return _llava(record) if forms == ["conversations"] else _messages(record)


def words(record: Record, value: object, what: str) -> str:
    """`value` if it is a string that can be encoded; `what` names it in the error."""
    if not isinstance(value, str):
        problem = f"{what} is {'missing' if value is None else 'a ' + type(value).__name__}, not a string"
        raise refusal(record, problem, remedy="Write it as a string.", code="value")
    try:
        value.encode()
    except UnicodeEncodeError:
        remedy = "Write both halves of the pair, or remove it: no tokenizer can encode one alone."
        raise refusal(record, f"half a surrogate pair in {what}", remedy=remedy, code="surrogate") from None
    return value


def _llava(record: Record) -> Draft:
    turns = []
    for position, entry in enumerate(_entries(record, "conversations")):
        what = f"turn {position}"
        _need_keys(record, entry, ("from", "value"), what)
        role = _role(record, entry["from"], _LLAVA_ROLES, what)
        text = words(record, entry["value"], f"the value of {what}")
        turns.append(Turn(role=role, content=_split_at_images(text) if role == "user" else (text,)))
    return Draft(turns=turns, images=_record_images(record))


def _split_at_images(text: str) -> tuple[Part, ...]:
    first, *rest = _SLOT.split(text)
    content: list[Part] = [first]
    for piece in rest:
        content += [IMAGE, piece]
    return tuple(part for part in content if part)


def _messages(record: Record) -> Draft:
    turns: list[Turn] = []
    images: list[ImageRef] = []
    waiting = iter(_record_images(record))
    for position, entry in enumerate(_entries(record, "messages")):
        what = f"message {position}"
        _need_keys(record, entry, ("role", "content"), what)
        role = _role(record, entry["role"], _CHAT_ROLES, what)
        content = tuple(_message_parts(record, entry["content"], what, waiting, images))
        if role != "user" and any(isinstance(part, ImageSlot) for part in content):
            remedy = "Move the image to a user message."
            raise refusal(record, f"{what}, by the {role}, holds an image", remedy=remedy, code="image_role")
        turns.append(Turn(role=role, content=content))
    return Draft(turns=turns, images=[*images, *waiting])


def _message_parts(
    record: Record, content: object, what: str, waiting: Iterator[ImageRef], images: list[ImageRef]
) -> Iterator[Part]:
    """Yield the parts of one message and add the images they stand for to `images`."""
    if not isinstance(content, Sequence) or isinstance(content, str | bytes):
        yield words(record, content, f"the content of {what}")
        return
    for position, part in enumerate(content):
        where = f"part {position} of {what}"
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            yield words(record, part.get("text"), where)
        elif kind in ("image", "image_url"):
            # With nothing left the slot stays without an image, and the count below says so.
            source = _part_source(part)
            images += islice(waiting, 1) if source is None else [_image(record, source)]
            yield IMAGE
        else:
            remedy = "Write {type: text, text}, {type: image, image} or {type: image_url, image_url}."
            raise refusal(record, f"{where} has the type {_shown(kind)}", remedy=remedy, code="part_type")


def _part_source(part: Mapping[str, object]) -> object:
    """An image part's own image, under whichever key; None where the record's `images` holds it."""
    for key in ("image", "image_url", "path", "url"):
        value = part.get(key)
        if key == "image_url" and isinstance(value, Mapping):
            value = value.get("url")
        if value is not None:
            return value
    return None


def _question(record: Record, prompt: str) -> Draft:
    pieces = _pieces(record, prompt)
    asks = any(name == "question" for _, name, _, _ in pieces)
    if asks:
        _check_question(record)
    text = "".join(literal + _filled(record, name, spec, how) for literal, name, spec, how in pieces)
    if not asks and record.fields.get("question") is not None:
        remedy = "Put {question} into it, or rename the field by the setting `columns` if it is not to be asked."
        raise refusal(record, "the prompt leaves out the question", remedy=remedy, code="prompt_question")
    content, images = _with_images(record, text)
    return Draft(turns=[Turn(role="user", content=content)], images=images)


def _with_images(record: Record, text: str) -> tuple[tuple[Part, ...], list[ImageRef]]:
    if not numbered_images(record):
        images = _record_images(record)
        return (*(IMAGE for _ in images), text), images
    pieces = split_at_markers(text)
    images = [_image(record, value) for value in shown_images(record, pieces)]
    content = tuple(piece if isinstance(piece, str) else IMAGE for piece in pieces)
    return (content if IMAGE in content else (*(IMAGE for _ in images), *content)), images


def _check_question(record: Record) -> None:
    if record.fields.get("question") is None:
        keys = ", ".join(map(repr, record.fields)) or "none"
        raise refusal(record, f"no form to read it by; its keys are {keys}", remedy=ACCEPTED_FORMS, code="form")
    question = words(record, record.fields["question"], "the question")
    if question.strip().startswith(IMAGE_PLACEHOLDER) or question.strip().endswith(IMAGE_PLACEHOLDER):
        remedy = f"Remove {IMAGE_PLACEHOLDER} from it: the image is put before the question."
        raise refusal(record, f"{IMAGE_PLACEHOLDER} in the question", remedy=remedy, code="image_placeholder")
    if not question.strip():
        raise refusal(record, "the question is empty", remedy="Write one, or take the record out.", code="empty_turn")


def _pieces(record: Record, prompt: str) -> Sequence[_Piece]:
    """Cut a template such as `"{question}\\nAnswer with one word."` at its fields.

    Only plain names are understood: `str.format` would also follow `{question.__class__}` into the program.
    """
    try:
        return list(string.Formatter().parse(prompt))
    except ValueError as error:
        remedy = "Write {field} for a field and {{ or }} for a brace."
        raise refusal(record, f"the prompt {prompt!r}: {error}", remedy=remedy, code="prompt_template") from None


def _filled(record: Record, name: str | None, spec: str | None, conversion: str | None) -> str:
    if name is None:
        return ""
    if spec or conversion:
        remedy = f"Write {{{name}}} alone."
        raise refusal(record, f"the prompt formats the field {name!r}", remedy=remedy, code="prompt_template")
    key, bar, substitute = (name, "", "") if name in record.fields else name.partition("|")
    if key not in record.fields:
        remedy = f"Its fields are {', '.join(map(repr, record.fields))}."
        raise refusal(record, f"the prompt names an unknown field {key!r}", remedy=remedy, code="prompt_field")
    value = record.fields[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list | tuple) and key != "answers":  # a list of these would give the answer away
        value = _listed(record, key, value)
    text = "" if value is None else words(record, value, f"the field {key!r} of the prompt")
    if not text.strip() and not bar:
        remedy = f"Fill it in, take the record out, or say in the prompt what stands for it: {{{key}|unknown}}."
        raise refusal(record, f"the field {key!r} of the prompt is empty", remedy=remedy, code="prompt_empty")
    return text if text.strip() else substitute


def _listed(record: Record, key: str, values: Sequence[object]) -> str:
    texts = [words(record, value, f"entry {i} of the field {key!r} of the prompt") for i, value in enumerate(values)]
    if key == CHOICES and len(texts) > MOST_CHOICES:
        remedy = f"Letters name {MOST_CHOICES} at most: leave some out."
        raise refusal(record, f"{len(texts)} choices", remedy=remedy, code="choices")
    return as_lines(texts) if key == CHOICES else ", ".join(texts)


def _record_images(record: Record) -> list[ImageRef]:
    """The images under `image` or `images`: one, a list, or none."""
    given = [record.fields[key] for key in ("image", "images") if record.fields.get(key) is not None]
    if len(given) == 2:
        raise refusal(record, "both image and images", remedy="Keep one of the two keys.", code="ambiguous")
    values = given[0] if given and isinstance(given[0], list | tuple) else given
    return [_image(record, value) for value in values]


def _image(record: Record, value: object) -> ImageRef:
    try:
        return to_image_ref(value, record.image_root)
    except ImageProblem as found:
        raise refusal(record, found.problem, remedy=found.remedy, code=found.code) from None


def _entries(record: Record, key: str) -> Sequence[Mapping[str, object]]:
    entries = record.fields[key]
    if not isinstance(entries, list | tuple):
        remedy = "Write a list of objects, one a turn."
        raise refusal(record, f"{key} is a {type(entries).__name__}", remedy=remedy, code="turns_type")
    for position, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            problem = f"turn {position} is a {type(entry).__name__}"
            raise refusal(record, problem, remedy="Write it as an object.", code="turn_type")
    return entries


def _need_keys(record: Record, entry: Mapping[str, object], keys: tuple[str, str], what: str) -> None:
    missing = [key for key in keys if key not in entry]
    if missing:
        problem = f"{what} has no {' and no '.join(map(repr, missing))}; its keys are {', '.join(map(repr, entry))}"
        raise refusal(record, problem, remedy=f"Give each turn {keys[0]!r} and {keys[1]!r}.", code="turn_keys")


def _role(record: Record, name: object, roles: Mapping[str, Role], what: str) -> Role:
    role = roles.get(name) if isinstance(name, str) else None
    if role is None:
        problem = f"{what} has the unknown role {_shown(name)}"
        raise refusal(record, problem, remedy=f"Use one of {', '.join(roles)}.", code="role")
    return role


def _shown(value: object) -> str:
    return repr(value)[:60] if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"
