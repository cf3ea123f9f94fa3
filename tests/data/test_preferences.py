"""Tests of preferences: every accepted form gives the same pair, and what cannot be compared is refused."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

import vlm_lit
from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.conversations.preference_forms import is_pair
from vlm_lit.data.conversations.preferences import to_preference
from vlm_lit.errors import RecordError
from vlm_lit.schema import IMAGE, Preference, Record

Fields = dict[str, Any]

GOOD, BAD = "A red lamp.", "A blue lamp and a cat."
USER = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}


def said(text: str) -> list[Fields]:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def rated(text: str, *ratings: str) -> Fields:
    aspects = ("Helpfulness", "Ethical Considerations", "Visual Faithfulness")
    return {
        "annotations": {
            aspect: {"Rating": rating, "Rationale": ""} for aspect, rating in zip(aspects, ratings, strict=True)
        },
        "model": "m",
        "response": text,
    }


RATED = [rated("So so.", "3", "5", "3"), rated(BAD, "1", "5", "1"), rated(GOOD, "5", "5", "4")]
LLAVA = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": GOOD}]

FORMS: Final[dict[str, Fields]] = {
    "rlaif-v_formatted": {"images": ["a.png"], "prompt": [USER], "chosen": said(GOOD), "rejected": said(BAD)},
    "full conversations": {"images": ["a.png"], "chosen": [USER, *said(GOOD)], "rejected": [USER, *said(BAD)]},
    "full conversations and prompt": {
        "images": ["a.png"],
        "prompt": [USER],
        "chosen": [USER, *said(GOOD)],
        "rejected": [USER, *said(BAD)],
    },
    "full conversations and prompt's text": {
        "images": ["a.png"],
        "prompt": "What is it?",
        "chosen": [USER, *said(GOOD)],
        "rejected": [USER, *said(BAD)],
    },
    "messages and texts": {"images": ["a.png"], "prompt": [USER], "chosen": GOOD, "rejected": BAD},
    "text and turns": {"images": ["a.png"], "prompt": "What is it?", "chosen": said(GOOD), "rejected": said(BAD)},
    "texts": {"images": ["a.png"], "prompt": "What is it?", "chosen": GOOD, "rejected": BAD},
    "RLAIF-V": {"image": "a.png", "question": "What is it?", "chosen": GOOD, "rejected": BAD},
    "MMPR": {"image": "a.png", "question": "<image>\nWhat is it?", "chosen": GOOD, "rejected": BAD},
    "POVID": {
        "image": "a.png",
        "conversations": LLAVA,
        "rejected_conversations": [LLAVA[0], {"from": "gpt", "value": BAD}],
    },
    "VLFeedback": {"prompt": "What is it?", "img_path": "a.png", "completions": RATED},
    "VLFeedback by columns": {
        "prompt": "What is it?",
        "img_path": "a.png",
        "completions": {key: [one[key] for one in RATED] for key in RATED[0]},
    },
    "mDPO": {"prompt": "What is it?", "img_path": "a.png", "chosen": GOOD, "rejected": BAD},
    "LLaMA-Factory": {
        "images": ["a.png"],
        "conversations": LLAVA[:1],
        "chosen": {"from": "gpt", "value": GOOD},
        "rejected": {"from": "gpt", "value": BAD},
    },
    "ms-swift": {"images": ["a.png"], "messages": [USER, *said(GOOD)], "rejected_response": BAD},
    "ms-swift messages": {
        "images": ["a.png"],
        "rejected_images": ["a.png"],
        "messages": [USER, *said(GOOD)],
        "rejected_messages": [USER, *said(BAD)],
    },
    "RLHF-V": {
        "image": "a.png",
        "image_path": "a.png",
        "text": json.dumps({"question": "What is it?", "chosen": GOOD, "rejected": BAD}),
    },
    "OpenAI": {
        "images": ["a.png"],
        "input": {"messages": [USER], "tools": []},
        "preferred_output": said(GOOD),
        "non_preferred_output": said(BAD),
    },
    "rated by one number": {
        "image": "a.png",
        "prompt": "What is it?",
        "completions": [{"response": BAD, "rating": "1"}, {"response": GOOD, "rating": 5}],
    },
    "scored": {
        "image": "a.png",
        "prompt": "What is it?",
        "completions": [{"response": BAD, "score": -0.5}, {"response": GOOD, "score": 0.5}],
    },
    "ms-swift query": {"images": ["a.png"], "query": "What is it?", "response": GOOD, "rejected_response": BAD},
}


def read(fields: Fields, **options: Any) -> Preference:
    record = Record(file="a.json", index=3, fields=copy.deepcopy(fields), image_root=Path("/set"))
    return to_preference(record, **options)


def refused(fields: Fields, **options: Any) -> RecordError:
    with pytest.raises(RecordError) as caught:
        read(fields, **options)
    assert str(caught.value).startswith("a.json, record 3: ")
    assert caught.value.remedy
    return caught.value


def notes(preference: Preference) -> list[tuple[str, str]]:
    return [(note.kind, note.about) for note in preference.notes]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pair(form: str) -> None:
    found = read(FORMS[form])
    for side, answer in ((found.chosen, GOOD), (found.rejected, BAD)):
        assert [turn.role for turn in side.turns] == ["user", "assistant"]
        assert side.turns[0].content == (IMAGE, "What is it?")
        assert (side.turns[1].content, side.turns[1].supervised) == ((answer,), True)
        assert side.images == found.images
        assert side.notes == found.notes == ()
    assert [image.path for image in found.images] == [Path("/set/a.png")]
    assert (found.id, found.file, found.record) == ("3", "a.json", "3")
    assert [side.id for side in found.sides] == ["3/chosen", "3/rejected"]
    assert [side.turns[-1].text for side in found.sides] == [GOOD, BAD]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_known_as_a_pair(form: str) -> None:
    assert is_pair(Record(file="a.json", index=3, fields=FORMS[form], image_root=None))


@pytest.mark.parametrize("form", FORMS)
def test_a_table_s_json_text_gives_the_same_pair(form: str) -> None:
    texts = {
        key: json.dumps(value)
        for key, value in FORMS[form].items()
        if isinstance(value, list) or (key in ("chosen", "rejected") and isinstance(value, dict))
    }
    found, expected = (read({**FORMS[form], **more}) for more in (texts, {}))
    assert (found.chosen, found.rejected) == (expected.chosen, expected.rejected)


@pytest.mark.parametrize("own", [{"image": "a.png"}, {"images": "a.png"}, {"images": '["a.png"]'}, {"img": "a.png"}])
@pytest.mark.parametrize("other", ["a.png", ["a.png"], '["a.png"]', [{"path": "a.png"}]])
def test_rejected_images_are_the_records_however_they_are_written(own: Fields, other: object) -> None:
    fields = {key: value for key, value in FORMS["ms-swift"].items() if key != "images"}
    assert [image.path for image in read({**fields, **own, "rejected_images": other}).images] == [Path("/set/a.png")]
    holder = next(iter(own))
    assert refused({**fields, **own, "rejected_images": ["b.png"]}).problem == (
        f"rejected_images shows other images than {holder}"
    )


def test_whole_numbers_are_answers() -> None:
    for form, more in (
        ("RLAIF-V", {"chosen": 3, "rejected": 4}),
        ("ms-swift", {"messages": [USER, {"role": "assistant", "content": 3}], "rejected_response": 4}),
        ("scored", {"completions": [{"response": 3, "score": 2}, {"response": 4, "score": 1}]}),
    ):
        found = read({**FORMS[form], **more})
        assert (found.chosen.turns[-1].text, found.rejected.turns[-1].text) == ("3", "4")


@pytest.mark.parametrize("form", FORMS)
def test_no_column_is_read_past_without_a_note(form: str) -> None:
    found = read({**FORMS[form], "origin_split": "x", "ds_name": "y", "id": "k7", "scan": "b.png"})
    assert sorted(notes(found)) == [("lost", "scan"), ("unused", "ds_name"), ("unused", "origin_split")]
    assert found.id == "k7"
    ignored = read({**FORMS[form], "hint": "x", "id": "k7"}, ignore_keys=["hint"])
    assert notes(ignored) == notes(read({**FORMS[form], "hint": "x"}, known_keys=["hint"])) == []


@pytest.mark.parametrize(
    ("form", "more"),
    [
        ("full conversations", {"messages": [USER, *said(GOOD)]}),
        ("full conversations", {"messages": json.dumps([USER, *said(GOOD)])}),
        ("full conversations", {"messages": [USER]}),
        ("full conversations and prompt's text", {"messages": [USER, *said(GOOD)]}),
        ("full conversations", {"messages": []}),
        ("rlaif-v_formatted", {"completion": said(GOOD)}),
        ("messages and texts", {"completion": GOOD}),
        ("messages and texts", {"completion": ""}),
    ],
)
def test_a_key_that_repeats_the_chosen_side_changes_nothing(form: str, more: Fields) -> None:
    found, expected = read({**FORMS[form], **more}), read(FORMS[form])
    assert (found.chosen, found.rejected) == (expected.chosen, expected.rejected)


def test_notes_name_what_of_the_ratings_is_not_used() -> None:
    fields = copy.deepcopy(FORMS["VLFeedback"])
    fields["models"] = ["m", "n"]
    fields["completions"][1]["annotations"]["Helpfulness"]["Rationale"] = "It sees a cat."
    fields["completions"][2]["seconds"] = 4
    assert sorted(notes(read(fields))) == [
        ("unused", "Rationale of a rating"),
        ("unused", "models"),
        ("unused", "seconds of a completion"),
    ]
    fields = copy.deepcopy(FORMS["VLFeedback"])
    fields["completions"][0]["annotations"]["Helpfulness"]["Rating"] = "good"
    assert notes(read(fields)) == [("unused", "a rating of Helpfulness that is no number")]
    fields["completions"] = [{**one, "score": 3} for one in FORMS["VLFeedback"]["completions"]]
    assert notes(read(fields)) == [("unused", "score of a completion")]
    fields = copy.deepcopy(FORMS["scored"])
    fields["completions"].append({"response": "A cat.", "score": "none"})
    assert notes(read(fields)) == [("unused", "a score that is no number")]
    turn = {**said(BAD)[0], "mood": "calm"}
    assert notes(read({**FORMS["rlaif-v_formatted"], "rejected": [turn]})) == [("unused", "mood of a turn")]


def test_a_turn_behind_a_prompt_of_text_is_read_as_any_turn() -> None:
    parts = [{"type": "text", "text": "A red"}, {"type": "text", "text": " lamp.", "score": 3}]
    chosen = {"role": "assistant", "content": parts, "mood": "calm"}
    found = read(
        {**FORMS["text and turns"], "chosen": chosen, "rejected": {"from": "gpt", "value": 7, "content": None}}
    )
    assert (found.chosen.turns[-1].text, found.rejected.turns[-1].text) == (GOOD, "7")
    assert sorted(notes(found)) == [("unused", "mood of a turn"), ("unused", "score of a part")]


def test_earlier_answers_are_not_learned_from() -> None:
    talk = [USER, {"role": "assistant", "content": "A thing."}, {"role": "user", "content": "Which?"}]
    for fields in (
        {"images": ["a.png"], "prompt": talk, "chosen": GOOD, "rejected": BAD},
        {"images": ["a.png"], "chosen": [*talk, *said(GOOD)], "rejected": [*talk, *said(BAD)]},
        {"images": ["a.png"], "messages": [*talk, *said(GOOD)], "rejected_response": BAD},
    ):
        found = read(fields, system="Be brief.")
        for side in (found.chosen, found.rejected):
            assert [turn.role for turn in side.turns] == ["system", "user", "assistant", "user", "assistant"]
            assert [turn.supervised for turn in side.turns if turn.role == "assistant"] == [False, True]


def test_settings_of_a_source_reach_both_sides() -> None:
    fields = {**FORMS["RLAIF-V"], "topic_area": "lamps", "image_id": 12, "answers": ["lamp", "a lamp"]}
    found = read(fields, prompt="{question} Answer shortly.", group_fields=["topic_area"])
    for side in (found.chosen, found.rejected):
        assert side.turns[0].text == "What is it? Answer shortly."
        assert side.groups == {"topic_area": "lamps"}
        assert (side.image_id, side.references) == ("12", ("lamp", "a lamp"))
    assert (found.chosen.turns[-1].text, found.rejected.turns[-1].text) == (GOOD, BAD)
    assert read({**FORMS["RLAIF-V"], "question": "See <image>"}, placeholders="text").chosen.turns[0].text == (
        "See <image>"
    )
    assert read(FORMS["RLAIF-V"]).chosen.references == (GOOD,)


def test_the_best_of_rated_answers_is_chosen_and_the_worst_rejected() -> None:
    def pair(*ratings: tuple[str, ...]) -> tuple[str, str]:
        answers = [rated(f"answer {k}", *given) for k, given in enumerate(ratings)]
        found = read({**FORMS["VLFeedback"], "completions": answers})
        return found.chosen.turns[-1].text, found.rejected.turns[-1].text

    assert pair(("4", "4", "4"), ("5", "5", "5"), ("1", "5", "5"), ("2", "2", "2")) == ("answer 1", "answer 3")
    # A mean over what is rated, so an aspect without a number lowers nobody.
    assert pair(("N/A", "5", "N/A"), ("4", "5", "5"), ("3", "3", "3")) == ("answer 0", "answer 2")
    assert pair(("5", "5", "5"), ("5", "5", "5"), ("1", "1", "1"), ("1", "1", "1")) == ("answer 0", "answer 2")
    assert pair(("nan", "N/A", "N/A"), ("2", "2", "2"), ("3", "3", "3")) == ("answer 2", "answer 1")
    whole = [{"response": text, "annotations": {"overall": rating}} for text, rating in ((BAD, 1), (GOOD, 4.5))]
    assert read({**FORMS["VLFeedback"], "completions": whole}).chosen.turns[-1].text == GOOD


@pytest.mark.parametrize(
    ("completions", "why"),
    [
        ([rated(GOOD, "4", "4", "4"), rated(BAD, "5", "3", "4")], "its 2 completions are all rated 4"),
        ([rated(GOOD, "4", "4", "4")], "1 of its completions have a rating"),
        ([rated(GOOD, "N/A", "", "-"), rated(BAD, "4", "4", "4")], "1 of its completions have a rating"),
        ([{"response": GOOD, "score": 3}, {"response": BAD, "score": "3.0"}], "its 2 completions are all rated 3"),
        ([{"response": GOOD, "score": 3}, {"response": BAD, "score": "bad"}], "1 of its completions have a rating"),
        ([{"response": GOOD}, {"response": BAD, "annotations": {}}], "0 of its completions have a rating"),
    ],
)
def test_a_tie_is_no_pair(completions: object, why: str) -> None:
    error = refused({**FORMS["VLFeedback"], "completions": completions})
    assert (error.code, error.problem) == ("preference.tie", why)


REFUSED: Final = [
    ("RLAIF-V", {"rejected": GOOD + "\n"}, "preference.identical", "chosen and rejected are the same: 'A red lamp.'"),
    ("POVID", {"rejected_conversations": LLAVA}, "preference.identical", "conversations and rejected_conversations"),
    ("rlaif-v_formatted", {"rejected": said(GOOD)}, "preference.identical", "are the same"),
    ("RLAIF-V", {"rejected": None}, "preference.missing", "rejected is missing"),
    ("RLAIF-V", {"chosen": None}, "preference.missing", "chosen is missing"),
    ("RLAIF-V", {"chosen": ""}, "preference.missing", "chosen is empty"),
    ("RLAIF-V", {"chosen": None, "rejected": ""}, "preference.missing", "chosen is missing"),
    ("rlaif-v_formatted", {"rejected": []}, "preference.missing", "rejected is empty"),
    ("POVID", {"conversations": None}, "preference.missing", "conversations is missing"),
    ("POVID", {"rejected_conversations": []}, "preference.missing", "rejected_conversations is empty"),
    ("ms-swift", {"messages": None}, "preference.missing", "messages is missing"),
    ("ms-swift", {"messages": [USER]}, "preference.missing", "messages do not end with an answer"),
    ("RLAIF-V", {"rejected": "  "}, "conversation.blank_answer", "rejected: turn 1, an answer to learn, is ''"),
    ("RLAIF-V", {"chosen": "[ANNOTATE: a]"}, "conversation.blank_answer", "chosen: turn 1, an answer to learn, is '[A"),
    ("rlaif-v_formatted", {"rejected": said("[ANNOTATE]")}, "conversation.blank_answer", "rejected: turn 1"),
    ("RLAIF-V", {"question": "[ANNOTATE: q]"}, "conversation.unfilled", "its question is still '[ANNOTATE: q]'"),
    ("rlaif-v_formatted", {"rejected": [USER, *said(BAD)]}, "preference.prompt", "prompt stands in rejected alone"),
    (
        "full conversations",
        {"rejected": [{**USER, "content": [{"type": "image"}, {"type": "text", "text": "Who?"}]}, *said(BAD)]},
        "preference.prompt",
        "chosen and rejected answer different prompts (turn 0 differs)",
    ),
    (
        "full conversations",
        {"rejected": [USER, *said("Hm."), {"role": "user", "content": "And?"}, *said(BAD)]},
        "preference.prompt",
        "answer different prompts (of 1 and 3 turns)",
    ),
    (
        "full conversations and prompt",
        {"prompt": [{"role": "user", "content": "Who?"}]},
        "preference.prompt",
        "chosen begins with another prompt than the record's",
    ),
    (
        "full conversations and prompt's text",
        {"prompt": "Who is it?"},
        "preference.prompt",
        "chosen answers another prompt than prompt",
    ),
    (
        "POVID",
        {"rejected_conversations": [{"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": BAD}]},
        "preference.prompt",
        "conversations and rejected_conversations answer different prompts",
    ),
    ("ms-swift messages", {"rejected_images": ["b.png"]}, "preference.images", "rejected_images shows other images"),
    (
        "full conversations",
        {
            "images": None,
            "chosen": [{"role": "user", "content": [{"type": "image", "image": "a.png"}]}, *said(GOOD)],
            "rejected": [{"role": "user", "content": [{"type": "image", "image": "b.png"}]}, *said(BAD)],
        },
        "preference.images",
        "chosen and rejected show different images",
    ),
    ("rlaif-v_formatted", {"images": ["a.png", "b.png"]}, "conversation.image_count", "1 places for images"),
    ("POVID", {"image": None}, "conversation.image_count", "1 places for images"),
    ("RLAIF-V", {"chosen": 7.5}, "preference.type", "chosen is 7.5"),
    ("RLAIF-V", {"chosen": True}, "preference.type", "chosen is True"),
    ("RLAIF-V", {"rejected": [GOOD]}, "preference.type", "rejected is a list"),
    ("RLAIF-V", {"rejected": [*said(BAD), *said(BAD)]}, "preference.type", "its answers are turns"),
    (
        "text and turns",
        {"chosen": [{**said(GOOD)[0], "reasoning_content": "A lamp glows."}]},
        "conversation.turn_key",
        "chosen: turn 0 has reasoning_content",
    ),
    (
        "text and turns",
        {"rejected": {"role": "assistant", "content": BAD, "tool_calls": [{"id": 1}]}},
        "conversation.turn_key",
        "rejected: turn 0 has tool_calls",
    ),
    (
        "text and turns",
        {"rejected": [{**said(BAD)[0], "weight": 0}]},
        "conversation.turn_flag",
        "rejected: its turn is not to be learned from",
    ),
    (
        "text and turns",
        {"chosen": [{"role": "assistant", "content": [{"type": "image", "text": GOOD}]}]},
        "conversation.image_role",
        "by the assistant, holds an image",
    ),
    ("text and turns", {"chosen": {"content": GOOD}, "rejected": {"content": BAD}}, "conversation.turn_keys", "'from'"),
    ("ms-swift", {"rejected_response": ["x"]}, "conversation.value", "rejected_response is a list, not a string"),
    ("rlaif-v_formatted", {"rejected": [{"role": "cat", "content": BAD}]}, "preference.prompt", "in rejected alone"),
    ("rlaif-v_formatted", {"rejected": [{"role": "assistant", "content": 1.5}]}, "conversation.value", "rejected: "),
    ("rlaif-v_formatted", {"rejected_response": BAD}, "preference.ambiguous", "both rejected_response and rejected"),
    *(
        (form, {"chosen": "A third."}, "preference.ambiguous", f"both {key} and chosen")
        for form, key in (
            ("ms-swift messages", "rejected_messages"),
            ("ms-swift", "rejected_response"),
            ("POVID", "rejected_conversations"),
            ("VLFeedback", "completions"),
        )
    ),
    *(
        ("full conversations", {"messages": turns}, "preference.ambiguous", "messages says something else than chosen")
        for turns in ([{**USER, "content": "<image>Who?"}], [USER, *said("A third.")], json.dumps([*said("A third.")]))
    ),
    *(
        ("rlaif-v_formatted", {"completion": third}, "preference.ambiguous", "completion says something else than")
        for third in ("A third.", said(BAD), json.dumps(said("A third.")))
    ),
    ("messages and texts", {"completion": "A third."}, "preference.ambiguous", "completion says something else than"),
    ("RLHF-V", {"question": "Who?"}, "preference.ambiguous", "both question and another question in the JSON of text"),
    ("OpenAI", {"input": "What is it?"}, "preference.form", "input is 'What is it?' without messages"),
    ("OpenAI", {"messages": [USER]}, "preference.ambiguous", "both messages and messages in input"),
    ("OpenAI", {"input": {"messages": [USER], "tools": [{"type": "x"}]}}, "conversation.key", "it has tools"),
    ("OpenAI", {"preferred_output": None}, "preference.missing", "preferred_output is missing"),
    ("OpenAI", {"preferred_output": 1.5}, "preference.type", "preferred_output is 1.5"),
    ("OpenAI", {"non_preferred_output": said(GOOD)}, "preference.identical", "preferred_output and non_preferred"),
    ("OpenAI", {"rejected": BAD}, "preference.ambiguous", "both rejected and non_preferred_output"),
    (
        "scored",
        {"completions": [{"response": GOOD, "score": 1, "rating": 5}, {"response": BAD, "score": 2}]},
        "preference.completions",
        "its completions have both rating and score",
    ),
    ("VLFeedback", {"completions": []}, "preference.tie", "0 of its completions"),
    ("VLFeedback", {"completions": None}, "preference.completions", "completions is None"),
    ("VLFeedback", {"completions": ["a", "b"]}, "preference.completions", "completions is a list"),
    ("VLFeedback", {"completions": [{"response": GOOD, "annotations": 4}]}, "preference.completions", "are 4"),
    ("VLFeedback", {"completions": [{"annotations": {"Helpfulness": 1}}]}, "conversation.value", "of completion 0"),
    ("LLaMA-Factory", {"conversations": LLAVA}, "preference.ambiguous", "conversations end with an answer"),
    (
        "rlaif-v_formatted",
        {"chosen": [{**said(GOOD)[0], "train": False}]},
        "conversation.turn_flag",
        "chosen: ",
    ),
    (
        "ms-swift",
        {"messages": [USER, *said("Hm."), USER, {**said(GOOD)[0], "train": False}], "images": ["a.png", "a.png"]},
        "conversation.turn_flag",
        "messages: its last turn is not to be learned from",
    ),
    ("RLAIF-V", {"chosen": None, "rejected": None, "answer": "x"}, "preference.missing", "chosen is missing"),
    ("RLAIF-V", {"chosen": str(said(GOOD))}, "conversation.turns_type", "chosen is text that begins as a list"),
    ("ms-swift", {"messages": "[{'role': 'user'}"}, "conversation.turns_type", "messages is text that begins as"),
    ("ms-swift", {"messages": "[]"}, "preference.missing", "messages is empty"),
    ("ms-swift", {"rejected_response": json.dumps(said(BAD))}, "conversation.value", "rejected_response is a list"),
    ("VLFeedback", {"completions": "[{'response'"}, "conversation.turns_type", "completions is text that begins as"),
    ("RLAIF-V", {"kto_tag": True}, "conversation.key", "it has kto_tag"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "change", "code", "words"), REFUSED)
def test_what_cannot_be_compared_is_refused(form: str, change: Fields, code: str, words: str) -> None:
    error = refused({**FORMS[form], **change})
    assert error.code == code
    assert words in error.problem


def test_a_record_of_another_form_is_told_what_a_pair_is() -> None:
    error = refused({"question": "What?", "answer": "a box"})
    assert error.code == "preference.form"
    assert "its keys are 'question', 'answer'" in error.problem
    assert "chosen and rejected" in error.remedy


def test_supervised_fine_tuning_names_the_module_for_pairs() -> None:
    record = Record(file="a.json", index=3, fields=FORMS["RLAIF-V"], image_root=Path("/set"))
    with pytest.raises(RecordError, match=r"it has chosen, and preferences are not supported.*PreferenceModule"):
        to_conversation(record, requires_answer=True)


def test_supervised_fine_tuning_does_not_learn_a_pair_as_a_caption() -> None:
    record = Record(file="a.json", index=3, fields=FORMS["RLHF-V"], image_root=Path("/set"))
    with pytest.raises(RecordError, match=r"its text is JSON with chosen and rejected.*PreferenceModule"):
        to_conversation(record, requires_answer=True)


README = (Path(vlm_lit.__file__).parent / "data" / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| [^|]+ \| `(\{.*\})` \|", README.split("## Pairs of answers")[1], re.MULTILINE)


def test_the_readme_shows_every_form() -> None:
    assert len(EXAMPLES) == 11


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_readme_is_a_pair(example: str) -> None:
    found = read(json.loads(example))
    assert [turn.text for turn in (found.chosen.turns[-1], found.rejected.turns[-1])] == ["yes", "no"]
    assert found.chosen.turns[0].content == (IMAGE, "Is it red?")
    assert ([image.path for image in found.images], found.notes) == ([Path("/set/a.png")], ())
