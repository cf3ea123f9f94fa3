"""Reading of JSON Schema files: whole, valid, and nothing that they refer to is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema.exceptions import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from vlm_lit.errors import ConfigError
from vlm_lit.files.strict_json import read_json


@cache
def read_schema(path: str, option: str) -> Mapping[str, Any]:
    """The schema in a file.

    Args:
        path: the file.
        option: what names it in a config, for errors.

    Raises:
        ConfigError: it holds no JSON Schema, or one that is not valid.
        RecordError: it cannot be read.
    """
    found = read_json(Path(path), any_value=True)
    if not isinstance(found, dict):
        raise ConfigError(f"{option}: {path} holds no JSON Schema, which is an object. Correct it.")
    try:
        validator_for(found).check_schema(found)
    except SchemaError as error:
        raise ConfigError(f"{option}: {path} is no valid JSON Schema: {error.message}. Correct it.") from None
    return found


@cache
def schema_validator(path: str, option: str) -> Validator:
    """What judges values by the schema in a file; see `read_schema`."""
    schema = read_schema(path, option)
    return validator_for(schema)(schema, registry=Registry())  # an empty one: what a schema refers to is never fetched
