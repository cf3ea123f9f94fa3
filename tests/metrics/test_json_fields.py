"""Tests of the metric `json_fields`: objects judged field by field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.catalogue import metric, rule
from vlm_lit.metrics.json_fields import JsonFields, fields_of, said_object
from vlm_lit.metrics.rules import Answer

TRUE = {"item": "saw", "color": "red", "row": 2, "parts": ["blade", "handle"], "place": {"bay": "B3"}}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"item": {"type": "string"}, "row": {"type": "integer", "minimum": 1}},
    "required": ["item"],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=4), inside, max_size=3),
    max_leaves=10,
)


def judged(answers: list[object], true: object = TRUE, **options: object) -> dict[str, float]:
    made = metric("json_fields", options)
    said = [answer if isinstance(answer, str) else json.dumps(answer) for answer in answers]
    made.update(said, [[json.dumps(true)]] * len(said), [str(i) for i in range(len(said))])
    return made.compute()


def changed(**fields: object) -> dict[str, object]:
    return {**TRUE, **fields}


def test_the_figures_by_hand() -> None:
    lacking = {name: value for name, value in TRUE.items() if name != "color"}
    found = judged([TRUE, changed(row=3), lacking, changed(weight=5), "a saw"], rules="row=number,color=text")
    assert found == pytest.approx(
        {
            "overall": (1 + 4 / 5 + 4 / 5 + 5 / 6 + 0) / 5,
            "parsed": 4 / 5,
            "all_right": 1 / 5,
            "missing": (0 + 0 + 1 + 0 + 5) / 25,
            "extra": 1 / (5 + 5 + 4 + 6),
            "field/row": (1 + 0 + 1 + 1 + 0) / 5,
            "field/color": (1 + 1 + 0 + 1 + 0) / 5,
        }
    )


@pytest.mark.parametrize(
    ("rules", "said", "score"),
    [
        ("", {"row": "2"}, 1), ("row=exact", {"row": "2"}, 0), ("row=number", {"row": "row two"}, 1),
        ("", {"row": 2.0}, 1),
        ("", {"parts": ["handle", "blade"]}, 1), ("parts=exact", {"parts": ["handle", "blade"]}, 0),
        ("", {"parts": ["blade", "tooth"]}, 0.5), ("", {"parts": "blade"}, 0), ("", {"color": "Red"}, 0),
        ("color=text", {"color": "The red."}, 1), ("item=anls", {"item": "sew"}, 2 / 3),
        ("", {"place": {"bay": "B4"}}, 0),
        ("place.bay=text", {"place": {"bay": "b3"}}, 1), ("", {"color": None}, 0),
    ],
)  # fmt: skip
def test_each_field_by_its_rule(rules: str, said: dict[str, object], score: float) -> None:
    assert judged([changed(**said)], rules=rules)["overall"] == pytest.approx((4 + score) / 5)


def test_a_tolerance_is_a_share_of_the_truth() -> None:
    assert judged([{"reading": 95}], {"reading": 100}, tolerance=0.05)["overall"] == 1
    assert judged([{"reading": 94}], {"reading": 100}, tolerance=0.05)["overall"] == 0


@pytest.mark.parametrize("text", ['```json\n{"a": 1}\n```', '```\n{"a": 1}```', ' {"a": 1} ', '{"a":1}'])
def test_an_object_may_stand_in_a_fence(text: str) -> None:
    assert said_object(text) == {"a": 1}


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "1", '{"a": 1', '{"a": 1, "a": 2}', '{"a": NaN}', 'Here: {"a": 1}', "{'a': 1}", '{"a": ' * 5000,
     '{"a": 1e999}', '{"a": ' + "9" * 400 + "}", '{"a": ' * 100 + "1" + "}" * 100],
)  # fmt: skip
def test_what_is_no_object_is_unparsed(text: str) -> None:
    assert said_object(text) is None
    answer = Answer(text, [json.dumps(TRUE)])
    assert JsonFields().score(answer) == 0
    assert JsonFields().unparsed(JsonFields().counts(answer) or ()) == 1


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_an_object_is_right_by_itself(found: dict[str, object]) -> None:
    text = json.dumps(found)
    assert JsonFields().score(Answer(text, [text])) == 1


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4), st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_scores_are_fractions(said: dict[str, object], true: dict[str, object]) -> None:
    score = JsonFields().score(Answer(json.dumps(said), [json.dumps(true)]))
    assert score is not None
    assert 0 <= score <= 1


def test_units_count_in_a_field_that_is_a_number() -> None:
    assert judged([{"far": "12 km"}], {"far": "12000 m"}, rules="far=number")["overall"] == 1
    assert judged([{"far": "12 km"}], {"far": "12 m"}, rules="far=number")["overall"] == 0
    assert judged([{"far": 12}], {"far": "12 m"}, rules="far=number")["overall"] == 1


def test_other_truths_are_left_out_if_asked() -> None:
    judge = JsonFields(others="leave_out")
    assert judge.counts(Answer("{}", ["saw"])) is None
    assert judge.counts(Answer("{}", ["{}"])) is not None
    with pytest.raises(VlmLitError, match="at least one reference"):
        judge.counts(Answer("{}", []))


def test_a_rule_for_an_object_holds_for_what_is_in_it() -> None:
    true = {"title": "Moons", "values": {"Io": 1822, "Europa": 1561, "Titan": 2575}}
    said = {"title": "Moons", "values": {"Io": "1.8k", "Europa": 1561}}
    found = judged([said], true, rules="values=number", tolerance=0.05)
    assert [found["overall"], found["field/values"]] == pytest.approx([3 / 4, 2 / 3])
    assert judged([said], true, rules="values=number,values.Io=exact", tolerance=0.05)["overall"] == 0.5


def test_a_dot_in_a_key_is_none_between_keys() -> None:
    assert judged([{"place.bay": "B3"}], {"place": {"bay": "B3"}})["overall"] == 0


def test_objects_within_objects_are_named_by_dots() -> None:
    assert fields_of({"a": {"b": 1, "c": {}}, "d": []}) == {"a.b": 1, "a.c": {}, "d": []}


def test_a_schema_is_kept_or_not_and_names_the_fields(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    found = judged([TRUE, changed(row=0), changed(row="two"), "no"], schema=str(tmp_path / "schema.json"))
    assert found["schema"] == 1 / 4
    assert (found["field/item"], found["field/row"]) == (3 / 4, 2 / 4)  # "two" is 2, though no integer


def test_the_name_tells_what_was_changed() -> None:
    assert rule("json_fields", {"rules": "row=number"}).name == "json_fields[rules=row=number]"


def test_a_schema_is_named_by_what_is_in_it_wherever_it_lies(tmp_path: Path) -> None:
    names = []
    for folder, schema in (("a", SCHEMA), ("b", SCHEMA), ("c", {"type": "object"})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.json").write_text(json.dumps(schema))
        options = {"schema": str(tmp_path / folder / "mine.json"), "rules": "a/b=text"}
        names.append(rule("json_fields", options).name)
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("json_fields[rules=a|b=text,schema=mine-")
    assert "/" not in names[0]  # it parts details from a name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": "row"}, "Write each field once, as NAME=RULE"),
        ({"rules": "row=number,row=exact"}, "Write each field once"),
        ({"rules": "row=nunber"}, "Did you mean number"),
        ({"tolerance": -0.1}, "must be 0 or more"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rule("json_fields", options)


@pytest.mark.parametrize(
    ("schema", "message"), [({"type": "objekt"}, "no valid JSON Schema"), ([], "which is an object")]
)
def test_a_schema_that_is_none_is_refused(schema: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    with pytest.raises(ConfigError, match=message):
        rule("json_fields", {"schema": str(tmp_path / "schema.json")})


def test_a_rule_for_a_field_that_the_schema_forbids_is_refused(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({**SCHEMA, "additionalProperties": False}))
    with pytest.raises(ConfigError, match=r"rules names 'itme', .* Did you mean item\?"):
        rule("json_fields", {"schema": str(tmp_path / "schema.json"), "rules": "itme=text"})


def test_a_schema_for_lists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({"type": "array"}))
    with pytest.raises(ConfigError, match="is for array, but an answer is an object"):
        rule("json_fields", {"schema": str(tmp_path / "schema.json")})


def test_a_schema_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({"$ref": "#"}))
    with pytest.raises(ConfigError, match="refers to itself without end"):
        judged([TRUE], schema=str(tmp_path / "schema.json"))


def test_nothing_that_a_schema_refers_to_is_fetched(tmp_path: Path) -> None:
    schema = {"properties": {"item": {"$ref": "http://127.0.0.1:9/item.json"}}}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    with pytest.raises(ConfigError, match="nothing is fetched"):
        judged([TRUE], schema=str(tmp_path / "schema.json"))


def test_a_truth_that_is_no_object_is_refused() -> None:
    with pytest.raises(VlmLitError, match="reference that is a JSON object, got 'saw'"):
        JsonFields().counts(Answer("{}", ["saw"]))


def test_compared_are_objects_with_their_keys_in_order() -> None:
    said, true = JsonFields().compared(Answer('{"b": 2.0, "a": 1}', ['{"a": 1, "b": 2}']))
    assert said == true[0] == '{"a":1,"b":2}'
