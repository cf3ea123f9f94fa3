"""Check of a record's keys: each is used, known to be harmless, named in a note, or refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from vlm_lit.data.conversations.choices import CHOICES
from vlm_lit.data.conversations.json_texts import listed, with_turns_read
from vlm_lit.data.conversations.numbered_images import numbered_columns
from vlm_lit.data.conversations.placeholders import any_placeholders
from vlm_lit.data.conversations.record_forms import TURN_KEYS
from vlm_lit.data.conversations.record_images import IMAGE_KEYS, IMAGE_NAME, NAME_KEYS, are_names_of, image_key_of
from vlm_lit.data.conversations.refusals import empty, refusal
from vlm_lit.data.conversations.turn_flags import FLAGS, MASKS, UNSUPPORTED
from vlm_lit.data.conversations.turns import HISTORY_KEY, SYSTEM_KEYS
from vlm_lit.errors import RecordError
from vlm_lit.schema import ImageRef, Note, Record

READ: Final = frozenset(
    {"id", "question_id", "answer_type", "question_type", "choices", "answer_index", HISTORY_KEY}
    | {*SYSTEM_KEYS, *FLAGS, *MASKS, *IMAGE_KEYS}
)
"""Keys that are read wherever they stand."""

HARMLESS: Final = frozenset(
    """
    source dataset dataset_name data_source data_type datasource origin split subset config task tasks task_type type
    category subcategory topic domain difficulty level language lang locale license url page_url coco_url flickr_url
    date_captured created created_at changed timestamp author annotator worker_id model model_name version width height
    image_width image_height image_size resolution sha256 md5 index idx uid uuid key questionId answer_id data_id
    sample_id conversation_id conv_id doc_id docId ucsf_document_id ucsf_document_page_no prompt_id unique_id pid qid
    isBalanced confidence answer_confidence quality score rating metadata meta info extra extra_info tags labels_source
    relevance_ratings relevance_min visual_dependency_ratings visual_dependency_min image_correspondence_ratings
    image_correspondence_min formatting_ratings formatting_min __key__ __url__ __index_level_0__ data_source_id
    question_types answer_types num_turns n_turns score_chosen score_rejected
    """.split()  # noqa: SIM905 - a name a line would be a page
)
"""Keys that say where a record is from, or what it is about, and nothing that a model would be shown or taught.

One that holds turns is named all the same, and so is one that holds a picture where the record shows none.
"""

IMAGE_IDS: Final = ("image_id", "imageId", "image_ids")
"""Keys that say which picture is meant, and not where it is."""

_PREFERENCES: Final = "preferences"

CARRIES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("video", "videos", "video_path", "video_paths", "video_file", "video_url"), "videos"),
    **dict.fromkeys(("audio", "audios", "audio_path", "audio_paths", "audio_file", "audio_url", "speech"), "sounds"),
    **dict.fromkeys(("tools", "functions", "tool_calls", "function_call", "available_tools"), "tools"),
    **dict.fromkeys(("objects", "ref_objects"), "objects and boxes for placeholders"),
    **dict.fromkeys(("chosen", "rejected", "rejected_response", "rejected_answer", "rejected_images"), _PREFERENCES),
    **dict.fromkeys(("kto_tag",), _PREFERENCES),
    **dict.fromkeys(("chat_template_kwargs", "chat_template", "documents"), "settings of the chat template"),
    **dict.fromkeys(UNSUPPORTED, "weights of the loss"),
}
"""Keys whose content a model would have to be shown, or trained by, and what that is."""

_MEDIA_FILE: Final = re.compile(
    r"[^\n]{1,300}\.(?:jpe?g|png|webp|bmp|gif|tiff?|mp4|avi|mov|mkv|webm|wav|mp3|flac|ogg)", re.IGNORECASE
)
_ASKED: Final = ("query", "instruction", "prompt", "prefix", "input", "context", "response", "output", "completion")


def without_ignored(record: Record, ignored: Collection[str]) -> Record:
    """The record without the keys that are to be ignored, at its top and in its turns, written as JSON text or not."""
    if not ignored:
        return record
    left = replace(record, fields={key: value for key, value in record.fields.items() if key not in ignored})
    left = with_turns_read(left)
    return replace(left, fields={key: _kept(_entries(left, key), ignored) for key in left.fields})


def _entries(record: Record, key: str) -> object:
    """What a key holds, turns as a list; the text of a completion is an answer where the prompt is no list."""
    lists = isinstance(record.fields.get("prompt"), list | tuple)
    if key in (*TURN_KEYS, HISTORY_KEY) or (key == "completion" and lists):
        with suppress(RecordError):  # it is refused where it is read
            return listed(record, key)
    return record.fields[key]


def _kept(value: object, ignored: Collection[str]) -> object:
    if not isinstance(value, list | tuple) or not all(isinstance(entry, Mapping) for entry in value):
        return value
    return [{key: item for key, item in entry.items() if key not in ignored} for entry in value]


def refuse_carried(record: Record, used: Collection[str]) -> None:
    """Refuse keys that hold input, preferences or flags which are not read.

    Raises:
        RecordError: there is such a key, and it is not empty.
    """
    for key, what in CARRIES.items():
        value = record.fields.get(key)
        if key not in used and not empty(value) and value is not False:
            remedy = f"Take it out; or name it in ignore_keys to train without it (ignore_keys: [{key}])."
            if what == _PREFERENCES:
                remedy += " Pairs of answers are trained on by PreferenceModule with PreferenceDataModule."
            problem = f"it has {key}, and {what} are not supported"
            raise refusal(record, problem, remedy=remedy, code="key")
    label = record.fields.get("label")
    if isinstance(label, bool) and "label" not in used:
        remedy = "Keep the wanted answers only and take the key out; or name it in ignore_keys."
        raise refusal(record, f"label is {label}, and preferences are not supported", remedy=remedy, code="key")


def refuse_unshown_image(record: Record, used: Collection[str]) -> None:
    """Refuse a record without an image that says which one is meant: nobody is to be asked about it without it.

    Raises:
        RecordError: it says so.
    """
    for key in (*IMAGE_IDS, IMAGE_NAME):
        value = record.fields.get(key)
        if key in used or empty(value):
            continue
        remedy = f"Set image_name, for example image_name: {{{key}}}.jpg or COCO_train2014_{{{key}:012d}}.jpg"
        if isinstance(value, list | tuple) or _is_input(value):
            remedy = f"If it holds files, set columns: {{{'image' if isinstance(value, str) else 'images'}: {key}}}"
        problem = f"its {key} names an image, and nothing says its file"
        remedy += f"; or images_from where a table holds the images; or name {key} in ignore_keys if none is meant."
        raise refusal(record, problem, remedy=remedy, code="image_name")


def unused_keys(record: Record, used: Collection[str], images: Sequence[ImageRef]) -> Iterator[Note]:
    """A note for each key that holds something and that nothing was made of.

    Args:
        record: the record.
        used: keys that are read, or known.
        images: what is shown of it.
    """
    holder, columns = image_key_of(record), numbered_columns(record).values()
    read = {*used, *READ, *IMAGE_IDS, *CARRIES, *columns, *(() if columns else (holder,))}
    for key, value in record.fields.items():
        if key in read or (key in HARMLESS and not _has_turns(value) and (images or not _is_input(value))):
            continue
        if empty(value):
            continue
        if key in (*NAME_KEYS, IMAGE_NAME):
            only_named = key == "file_name" and isinstance(value, str) and holder in IMAGE_KEYS
            if only_named or are_names_of(record, key, images):
                continue
        elif len(key) == 1 and key.isupper() and CHOICES in record.fields:
            if CHOICES in used:
                continue
            yield Note(kind="lost", about=key)
            continue
        yield Note(kind="lost" if key in (*_ASKED, *NAME_KEYS) or _is_input(value) else "unused", about=key)


def _is_input(value: object) -> bool:
    """Whether a value is or holds an image, a file of one, turns, or words with an image's place in them."""
    return _has_turns(value) or any(_is_image(held) for held in _held(value))


def _has_turns(value: object) -> bool:
    if not isinstance(value, Mapping | list | tuple):
        return False
    keys = (held.keys() for held in _held(value) if isinstance(held, Mapping))
    return any({"role", "from"} & found and {"content", "value"} & found for found in keys)


def _is_image(value: object) -> bool:
    if isinstance(value, str):
        marked = any(bracket in value for bracket in "<[{") and any_placeholders([value])
        return bool(marked) or _MEDIA_FILE.fullmatch(value) is not None
    return isinstance(value, bytes) or (isinstance(value, Mapping) and "bytes" in value)


def _held(value: object, depth: int = 4) -> Iterator[object]:
    """The value, and the first entries of the lists and objects in it."""
    yield value
    entries = list(value.values()) if isinstance(value, Mapping) else value
    if depth and isinstance(entries, list | tuple):
        for entry in entries[:8]:
            yield from _held(entry, depth - 1)
