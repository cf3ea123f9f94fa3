"""Structured answers: a JSON object judged field by field.

For models that are taught a format of their own: is an answer JSON, does it keep the schema, and which of its fields
are right, each by a rule of its own?
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from jsonschema.protocols import Validator
from referencing.exceptions import Unresolvable

from vlm_lit.errors import ConfigError, VlmLitError, nearest
from vlm_lit.files.json_schema import fields_of_schema, read_schema, schema_validator, spelled_name
from vlm_lit.metrics.json_values import FIELD_RULES, spelled, usual_rule, value_score
from vlm_lit.metrics.number import Others
from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references, ratio

_FENCED: Final = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_OPTION: Final = "json_fields.schema"
_OWN: Final = 9  # counts before those of the named fields
_DEEPEST: Final = 64
_Number = TypeVar("_Number", int, float)


def said_object(text: str) -> dict[str, object] | None:
    """The JSON object that an answer is, in a Markdown fence or bare.

    None where it is none, names a key twice, or holds a number without end, such as 1e999.
    """
    fenced = _FENCED.match(text)
    try:
        found = json.loads(
            fenced[1] if fenced else text,
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=lambda digits: _bounded(float(digits)),
            parse_int=lambda digits: _bounded(int(digits)),
        )
        return found if isinstance(found, dict) and _depth(found) <= _DEEPEST else None
    except (ValueError, OverflowError, RecursionError):
        return None


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _bounded(number: _Number) -> _Number:
    if not math.isfinite(float(number)):
        raise ValueError("it is larger than a number can be")
    return number


def _depth(value: object) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inside), default=0)


def fields_of(found: Mapping[str, object], above: str = "") -> dict[str, object]:
    """The fields of an object by name, those of objects within it by a dotted one; an empty object is a field."""
    flat: dict[str, object] = {}
    for key, value in found.items():
        name = f"{above}{spelled_name(key)}"
        inside = fields_of(value, f"{name}.") if isinstance(value, dict) else {}
        flat |= inside or {name: value}
    return flat


@dataclass(frozen=True)
class JsonFields(Rule):
    """Fields of a JSON object that are right, whether it is JSON at all, and whether it keeps a schema.

    An answer's score is the sum of its fields' scores divided by the number of fields that stand in the answer or in
    the truth: a missing field and an extra one both cost. `overall` is the mean of that. `parsed` is the share of
    answers that are a JSON object, `schema` of those that keep the schema, `all_right` of those without a mistake;
    `missing` is the share of the truth's fields that answers lack, `extra` the share of answers' fields that the
    truth lacks; `field/NAME` is the mean score of a field over the truths that have it, for the fields that `rules`
    or the schema name (0 where no truth has it); of an object whose keys are free, the mean of what is in it. Of
    several references the first is the truth.

    How a field is compared follows from the truth's value unless `rules` says: a number as `number`, a list as `set`,
    everything else as `exact`. A rule for an object holds for all that is in it.

    Args:
        rules: the fields' rules, for example "color=text,row=number,parts=set". `exact`: equal. `text`: equal as VQA
            answers are, without case, articles and punctuation. `number`: within `tolerance`, also digits and units in
            a text. `set`: the F1 of the entries, in any order. `anls`: how near two texts are.
        schema: file with a JSON Schema.
        tolerance: how far a number may be off as a share of the true one.
        others: what becomes of a question whose true answer is no JSON object.

    Raises:
        ConfigError: a rule or the schema cannot be read, or the tolerance is negative.
    """

    title: ClassVar[str] = "json_fields"
    compares_details: ClassVar[bool] = True

    rules: str = ""
    schema: str = ""
    tolerance: float = 0.0
    others: Others = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.tolerance >= 0 and math.isfinite(self.tolerance)):
            raise ConfigError(f"json_fields: tolerance is {self.tolerance}; it must be 0 or more.")
        _ = self.named, self._checked
        if self.schema:
            self._check_fields()

    @cached_property
    def _schema(self) -> Mapping[str, Any]:
        """What the file says, read once; nothing where there is none."""
        return read_schema(self.schema, _OPTION) if self.schema else {}

    @cached_property
    def name(self) -> str:
        """What reports call it: a schema by its file's name and its content, wherever it lies."""
        whole = super().name
        if self.schema:
            content = json.dumps(self._schema, sort_keys=True).encode()
            digest = blake2b(content, digest_size=4).hexdigest()
            whole = whole.replace(f"schema={self.schema}", f"schema={Path(self.schema).stem}-{digest}")
        return whole.replace("/", "|")  # a slash parts details from a name

    @property
    def columns(self) -> int:  # type: ignore[override] # as many as there are fields by name
        """Nine numbers, and two for each named field."""
        return _OWN + 2 * len(self.named)

    @cached_property
    def _by_field(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in self.rules.split(","))):
            name, equals, how = (text.strip() for text in part.partition("="))
            if not (name and equals) or name in found:
                raise ConfigError(f"json_fields: rules has {part!r}. Write each field once, as NAME=RULE.")
            if how not in FIELD_RULES:
                near = nearest(how, FIELD_RULES)
                hint = f" Did you mean {near}?" if near else ""
                raise ConfigError(
                    f"json_fields: the rule of {name} is {how!r}; it must be one of {', '.join(FIELD_RULES)}.{hint}"
                )
            found[name] = how
        return found

    @cached_property
    def named(self) -> tuple[str, ...]:
        """The fields that have a figure of their own."""
        return tuple(dict.fromkeys([*self._by_field, *fields_of_schema(self._schema)]))

    @cached_property
    def _checked(self) -> Validator | None:
        return schema_validator(self._schema) if self.schema else None

    def _check_fields(self) -> None:
        """Refuse a schema of something else than objects, and a rule for a field that the schema does not allow."""
        schema, fields = self._schema, fields_of_schema(self._schema)
        if "type" in schema and "object" not in (schema["type"], *schema["type"]):
            raise ConfigError(
                f"{_OPTION}: {self.schema} is for {schema['type']}, but an answer is an object. Correct it."
            )
        strangers = [name for name in self._by_field if name not in fields]
        if strangers and schema.get("additionalProperties") is False:
            near = nearest(strangers[0], fields)
            hint = f" Did you mean {near}?" if near else ""
            raise ConfigError(
                f"json_fields: rules names {strangers[0]!r}, which {self.schema} does not allow.{hint} It has: "
                f"{', '.join(fields)}."
            )

    def counts(self, answer: Answer) -> Counts | None:
        """Score, parsed, unparsed, schema kept, all right, missing, true, extra, said fields; then the named ones'."""
        if self.others == "leave_out" and answer.references and said_object(answer.references[0]) is None:
            return None
        truth, whole = fields_of(_truth(answer.references)), said_object(answer.prediction)
        said, parsed = fields_of(whole or {}), whole is not None
        scores = {
            name: value_score(self._rule_of(name, truth[name]), said[name], truth[name], self.tolerance)
            for name in truth
            if name in said
        }
        every = len({*truth, *said})
        score = math.fsum(scores.values()) / every if every else float(parsed)
        own = (
            score,
            float(parsed),
            float(not parsed),
            float(parsed and self._keeps(whole)),
            float(score == 1),
            float(len(truth) - len(scores)),
            float(len(truth)),
            float(len(said) - len(scores)),
            float(len(said)),
        )
        by_name = (_mean([scores.get(field, 0.0) for field in truth if is_below(field, name)]) for name in self.named)
        return (*own, *(number for pair in by_name for number in pair))

    def values(self, sums: Sequence[float], n: int) -> dict[str, float]:
        """The mean score as `overall`, then the details."""
        score, parsed, _, kept, right, missing, true, extra, said = sums[:_OWN]
        found = {"overall": score / n, "parsed": parsed / n}
        if self.schema:
            found["schema"] = kept / n
        found |= {"all_right": right / n, "missing": ratio(missing, true), "extra": ratio(extra, said)}
        pairs = zip(sums[_OWN::2], sums[_OWN + 1 :: 2], strict=True)
        fields = {f"field/{name}": ratio(*pair) for name, pair in zip(self.named, pairs, strict=True)}
        return {**found, **fields}

    def unparsed(self, sums: Sequence[float]) -> int:
        """How many answers are no JSON object."""
        return round(sums[2])

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """Both with their keys in order, a right one as the truth; an answer that is no object as it is."""
        said, truth = said_object(answer.prediction), spelled(_truth(answer.references))
        if said is None:
            return answer.prediction, [truth]
        counts = self.counts(answer)
        return truth if counts is not None and counts[0] == 1 else spelled(said), [truth]

    def _rule_of(self, field: str, true: object) -> str:
        """How a field is compared: by its own rule, or that of the nearest object around it, or as its truth says."""
        name = max((name for name in self._by_field if is_below(field, name)), key=len, default=None)
        return usual_rule(true) if name is None else self._by_field[name]

    def _keeps(self, whole: object) -> bool:
        """Whether an answer keeps the schema, if there is one."""
        try:
            return self._checked is not None and self._checked.is_valid(whole)
        except RecursionError:
            raise ConfigError(f"json_fields: {self.schema} refers to itself without end. Correct it.") from None
        except Unresolvable as error:
            raise ConfigError(
                f"json_fields: {self.schema} refers to {error.ref!r}, which is not in it. Write what it refers to into "
                "the file; nothing is fetched."
            ) from None


def is_below(field: str, name: str) -> bool:
    """Whether a field is the one of that name, or lies within the object of that name."""
    return field == name or field.startswith(f"{name}.")


def _mean(scores: Sequence[float]) -> tuple[float, float]:
    return (math.fsum(scores) / len(scores), 1.0) if scores else (0.0, 0.0)


def _truth(references: Sequence[str]) -> dict[str, object]:
    need_references("json_fields", references)
    truth = said_object(references[0])
    if truth is None:
        raise VlmLitError(
            f"json_fields needs a reference that is a JSON object, got {references[0]!r}. Correct it, or set the "
            "option others: leave_out."
        )
    return truth
