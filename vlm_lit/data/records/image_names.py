"""Image file names made from a record's number, by a template such as `COCO_train2014_{image_id:012d}.jpg`."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from typing import Final

from vlm_lit.data.conversations.record_images import image_key_of
from vlm_lit.data.conversations.refusals import digits_or_words, refusal
from vlm_lit.errors import ConfigError
from vlm_lit.schema import Record

_DIGITS: Final = re.compile(r"0?\d{0,2}d?")


def image_name_fields(template: str) -> frozenset[str]:
    """The record's fields that a template names.

    Raises:
        ConfigError: it is no template.
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"image_name is {template!r}: {error}. Write fields as {{image_id:012d}}.") from None
    for _, name, spec, how in pieces:
        if name is not None and (how or not name or not _DIGITS.fullmatch(spec or "")):
            raise ConfigError(f"image_name is {template!r}; write fields as {{image_id}} or {{image_id:012d}}.")
    return frozenset(name for _, name, _, _ in pieces if name is not None)


def with_named_image(record: Record, template: str) -> Record:
    """The record with the image whose name the template makes of its fields; as it is where it has one already.

    Raises:
        RecordError: it has no such field.
    """
    if image_key_of(record) is not None:
        return record
    name = ""
    for literal, field, spec, _ in string.Formatter().parse(template):
        name += literal
        if field is not None:
            if field not in record.fields:
                there = ", ".join(map(repr, record.fields))
                remedy = f"Its fields are {there}; correct the setting image_name."
                raise refusal(record, f"no field {field!r} to name its image by", remedy=remedy, code="image_name")
            name += _written(record, field, spec or "")
    return replace(record, fields={**record.fields, "image": name})


def _written(record: Record, field: str, spec: str) -> str:
    text = digits_or_words(record, record.fields[field], f"the field {field!r} of image_name")
    if not spec:
        return text
    if not text.isdecimal():
        remedy = "Leave the format out, or correct the setting image_name."
        raise refusal(record, f"{field} is {text!r}, not a whole number", remedy=remedy, code="image_name")
    return format(int(text), spec if spec.endswith("d") else spec + "d")
