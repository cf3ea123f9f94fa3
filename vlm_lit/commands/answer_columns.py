"""Option `--columns` of `score`: which keys of a file of answers hold what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches

from vlm_lit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AnswerColumns:
    """The keys that hold an answer's parts; null for the key that a known file has. `a.b` is the key b inside a.

    Args:
        id: what names the record.
        prediction: the answer.
        references: the accepted answers, one or a list.
        image_id: what names its image.
        choices: the texts of its options A, B, ...
        groups: a key whose value names the breakdown that it enters.
    """

    id: str | None = None
    prediction: str | None = None
    references: str | None = None
    image_id: str | None = None
    choices: str | None = None
    groups: str | None = None

    def with_inner(self, row: Mapping[str, object]) -> dict[str, object]:
        """The record with the values that stand inside others under their dotted names."""
        found = dict(row)
        for path in asdict(self).values():
            if path is not None and path not in found and "." in path:
                value: object = row
                for key in path.split("."):
                    if not isinstance(value, Mapping) or key not in value:
                        break
                    value = value[key]
                else:
                    found[path] = value
        return found


def parsed_columns(text: str | None) -> AnswerColumns:
    """Reads `prediction=text,id=question_id`, or the same with colons, in braces.

    Raises:
        ConfigError: it cannot be read, or names what an answer does not have.
    """
    known = [field.name for field in fields(AnswerColumns)]
    found: dict[str, str] = {}
    for pair in (text or "").strip().removeprefix("{").removesuffix("}").split(","):
        if text is None or not pair.strip():
            continue
        match = re.fullmatch(r"\s*['\"]?([^=:'\"]+?)['\"]?\s*[=:]\s*['\"]?(.+?)['\"]?\s*", pair)
        if match is None:
            raise ConfigError(f"--columns: {pair.strip()!r} is no pair. Write prediction=NAME,id=NAME,references=NAME.")
        name, key = match[1], match[2]
        if name not in known:
            near = get_close_matches(name, known, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--columns: an answer has no {name!r}.{meant} It has {', '.join(known)}.")
        if name in found:
            raise ConfigError(f"--columns names {name} twice. Keep one.")
        found[name] = key
    return AnswerColumns(**found)
