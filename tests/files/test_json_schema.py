"""Tests of JSON Schema files: what would say nothing is refused, and fields are found through references."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlm_lit.errors import ConfigError
from vlm_lit.files.json_schema import fields_of_schema, read_schema

PLACE = {"type": "object", "properties": {"bay": {"type": "string"}, "inside": {"$ref": "#/$defs/place"}}}


def read(folder: Path, schema: object) -> object:
    (folder / "schema.json").write_text(json.dumps(schema))
    return read_schema(str(folder / "schema.json"), "json_fields.schema")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"propertys": {}}, "at its top: JSON Schema has no 'propertys', .* Did you mean properties"),
        ({"properties": {"a": {"minimun": 1}}}, "at /properties/a: JSON Schema has no 'minimun'"),
        ({"items": {"anyOf": [{}, {"nullable": True}]}}, "at /items/anyOf/1: JSON Schema has no 'nullable'"),
        ({"$ref": "#/$defs/x"}, "'#/\\$defs/x', which is not in the file"),
        ({"$schema": "http://example.com/draft"}, "no draft that is known"),
        ({"pattern": "("}, "no valid JSON Schema"),
    ],
)
def test_what_would_say_nothing_is_refused(schema: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"propertys": {"title": "any name", "x-mine": 1}}},  # a field may be called as one likes
        {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 0, "exclusiveMinimum": True},
        {"if": {"type": "object"}, "then": {"required": ["a"]}, "else": False, "default": {"anything": 1}},
        {"enum": [{"a": 1}], "dependentRequired": {"a": ["b"]}, "contains": {}, "minContains": 1},
    ],
)
def test_what_json_schema_knows_is_taken(schema: object, tmp_path: Path) -> None:
    assert read(tmp_path, schema) == schema


def test_a_schema_that_was_edited_is_read_again(tmp_path: Path) -> None:
    read(tmp_path, {"type": "object"})
    assert read(tmp_path, {"type": "array"}) == {"type": "array"}


def test_fields_are_found_through_references() -> None:
    schema = {
        "allOf": [{"properties": {"item": {}}}],
        "properties": {"place": {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]}, "a.b": {}},
        "$defs": {"place": PLACE},
    }
    assert fields_of_schema(schema) == ["place.bay", "place.inside", "a\\.b", "item"]
