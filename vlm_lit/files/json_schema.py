"""Reading of JSON Schema files: whole, valid, every keyword known, and nothing that they refer to is fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from vlm_lit.errors import ConfigError, nearest
from vlm_lit.files.strict_json import read_json

_BY_NAME: Final = frozenset({
    "properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies",
})  # fmt: skip
_LISTED: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_SINGLE: Final = frozenset({
    "items", "contains", "additionalProperties", "additionalItems", "unevaluatedProperties", "unevaluatedItems",
    "propertyNames", "not", "if", "then", "else",
})  # fmt: skip
_BESIDE: Final = frozenset({
    "$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "$comment", "$defs",
    "definitions", "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly",
    "format", "contentMediaType", "contentEncoding", "contentSchema", "then", "else", "minContains", "maxContains",
    "discriminator", "unevaluatedItems", "exclusiveMinimum", "exclusiveMaximum",
})  # fmt: skip
"""Keywords that judge nothing by themselves, some in other drafts than others."""
_UNIONS: Final = ("allOf", "anyOf", "oneOf")


def read_schema(path: str, option: str) -> Mapping[str, Any]:
    """The schema in a file.

    Args:
        path: the file.
        option: what names it in a config, for errors.

    Raises:
        ConfigError: it holds no JSON Schema, or one that is not valid or has words that JSON Schema does not know.
        RecordError: it cannot be read.
    """
    found = read_json(Path(path), any_value=True)
    if not isinstance(found, dict):
        raise ConfigError(f"{option}: {path} holds no JSON Schema, which is an object. Correct it.")
    kind = validator_for(found, default=None) if "$schema" in found else validator_for(found)
    if kind is None:
        raise ConfigError(
            f"{option}: {path} has the $schema {found['$schema']!r}, which is no draft that is known. Correct it, or "
            "take it out."
        )
    try:
        kind.check_schema(found)
    except SchemaError as error:
        raise ConfigError(f"{option}: {path} is no valid JSON Schema: {error.message}. Correct it.") from None
    known = {*kind.VALIDATORS, *_BESIDE}
    for place, inside in _schemas(found, ""):
        problem = _problem(inside, known, found)
        if problem:
            raise ConfigError(f"{option}: {path}, at {place or 'its top'}: {problem}")
    return found


def schema_validator(schema: Mapping[str, Any]) -> Validator:
    """What judges values by a schema that `read_schema` has read."""
    return validator_for(schema)(schema, registry=Registry())  # an empty one: what a schema refers to is never fetched


def _schemas(schema: Mapping[str, Any], place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A schema and those within it, each with where it stands."""
    yield place, schema
    for word, value in schema.items():
        if word in _BY_NAME and isinstance(value, dict):
            inner = [(f"{place}/{word}/{name}", one) for name, one in value.items()]
        elif word in _LISTED and isinstance(value, list):
            inner = [(f"{place}/{word}/{index}", one) for index, one in enumerate(value)]
        else:
            inner = [(f"{place}/{word}", value)] if word in _SINGLE else []
        for where, one in inner:
            if isinstance(one, dict):
                yield from _schemas(one, where)


def _problem(schema: Mapping[str, Any], known: set[str], whole: Mapping[str, Any]) -> str | None:
    """What is wrong with one schema that its draft lets pass."""
    for word in schema:
        if word not in known and not word.startswith("x-"):
            near = nearest(word, known)
            hint = f" Did you mean {near}?" if near else ""
            return f"JSON Schema has no {word!r}, so it would say nothing.{hint} A word of your own begins with x-."
    refers = schema.get("$ref")
    if isinstance(refers, str) and refers.startswith("#/") and _at(whole, refers) is None:
        return f"it refers to {refers!r}, which is not in the file. Correct it."
    return None


def _at(whole: Mapping[str, Any], pointer: str) -> Mapping[str, Any] | None:
    """The schema that a reference within the file names; None where there is none."""
    found: Any = whole
    for part in pointer[2:].split("/"):
        name = part.replace("%25", "%").replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            found = found.get(name) if isinstance(found, dict) else None
    return {} if found is True else found if isinstance(found, dict) else None


def fields_of_schema(schema: Mapping[str, Any]) -> list[str]:
    """The fields that a schema names, those of objects within it by a dotted name; it may refer to parts of itself."""
    return list(dict.fromkeys(_fields(schema, schema, "", ())))


def _fields(schema: object, whole: Mapping[str, Any], above: str, followed: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    for name, inside in schema.get("properties", {}).items():
        field = f"{above}{spelled_name(name)}"
        nested = list(_fields(inside, whole, f"{field}.", followed))
        yield from nested or [field]
    for word in _UNIONS:
        for one in schema.get(word, []):
            yield from _fields(one, whole, above, followed)
    refers = schema.get("$ref")
    if isinstance(refers, str) and refers.startswith("#/") and refers not in followed:
        yield from _fields(_at(whole, refers), whole, above, (*followed, refers))


def spelled_name(key: str) -> str:
    r"""A key as it stands in a dotted name: a dot of its own is written `\\.`."""
    return key.replace(".", "\\.")
