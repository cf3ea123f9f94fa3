"""Tests of the chat template's probe: what a template does is known, said, or refused at load."""

from __future__ import annotations

import pytest

from tests.support import tiny_models
from tests.support.talks import answer, system, talk, user
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.checkpoint.template_probe import TemplateFacts, template_facts
from vlm_lit.data.rows.encoder_choice import encoder_of, template_notes
from vlm_lit.data.rows.masking import Transcript
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import IMAGE, Conversation, ImageRef, Turn

BODY = "{% for c in m['content'] %}{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}"
TURN = "{{ m['role'] }}: " + BODY + "</s>"
TEMPLATE = "{% for m in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"


def transcript(template: str) -> Transcript:
    processor = tiny_models.llava_processor()
    processor.chat_template = template
    return Transcript(processor)


def facts(template: str) -> TemplateFacts:
    return transcript(template).facts


def rendered(made: Transcript, *turns: Turn) -> str:
    images = tuple(ImageRef(pixels=tiny_models.picture(0)) for turn in turns for part in turn.content if part == IMAGE)
    return made.render(Conversation(id="c", turns=turns, images=images, file="data.json", record="7")).text


def test_a_plain_template_has_nothing_to_say() -> None:
    assert facts(TEMPLATE).notes == []


def test_a_system_message_that_would_become_python_is_given_as_a_string() -> None:
    told = "{% if m['role'] == 'system' %}system: {{ m['content'] | trim }}</s>{% else %}" + TURN + "{% endif %}"
    made = transcript(TEMPLATE.replace(TURN, told))
    text = rendered(made, system("Be short."), user(IMAGE, "what?"), answer("cat"))
    assert text.startswith("system: Be short.</s>user: <image>what?")


def test_llama_3_2_system_message_without_a_picture() -> None:
    made = Transcript(TINY["mllama"].build(0)[1])
    text = made.render(talk("system, no image")).text
    assert "26 Jul 2024\n\nBe short.<|eot_id|>" in text
    assert "{'type'" not in text


@pytest.mark.parametrize(
    ("date", "written"),
    [
        ("{{ strftime_now('%d %B %Y, %H:%M') }}", "26 July 2024, 00:00"),
        ("{% set date_string = strftime_now('%d %b %Y') %}{{ date_string }}", "26 Jul 2024"),
        ("{% if strftime_now is defined %}{{ strftime_now('%Y-%m-%d') }}{% endif %}", "2024-07-26"),
        ("{{ date_string | default('never') }}", "26 Jul 2024"),
    ],
)
def test_a_template_that_writes_the_date_writes_the_same_on_every_day(date: str, written: str) -> None:
    text = rendered(transcript(f"Today: {date}</s>{TEMPLATE}"), user(IMAGE, "what?"), answer("cat"))
    assert text.startswith(f"Today: {written}</s>user: ")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{{ m['content'] }}", "writes Python's form of a message"),
        ("{{ m['content'][0]['text'] }}", "leaves out a user's words"),
        (BODY + BODY, "writes a user's words 2 times"),
        (BODY.replace("'<image>'", "''"), "writes nothing where a picture is"),
        ("{{ raise_exception('not me') }}", "not me"),
        ("{{ m['content'] + 1 }}", "TypeError: can only concatenate list"),
    ],
)
def test_a_template_that_does_not_write_what_is_said_is_refused_at_load(body: str, said: str) -> None:
    processor = tiny_models.llava_processor()
    processor.chat_template = TEMPLATE.replace(BODY, body)
    with pytest.raises(ConfigError, match=said):
        encoder_of(processor)


def test_mistrals_first_templates_read_content() -> None:
    made = transcript(TEMPLATE.replace("c['text']", "c['content']"))
    assert rendered(made, user(IMAGE, "what?"), answer("cat")) == "user: <image>what?</s>assistant: cat</s>"


def test_an_answer_that_is_asked_for_otherwise_than_it_is_written() -> None:
    # llava-interleave's published template: a line break where it asks, a blank where it writes.
    with pytest.raises(ConfigError, match=r"asks for an answer with .*assistant:\\n', but writes .*assistant: '"):
        _ = facts(TEMPLATE.replace("assistant: {%", "assistant:\n{%"))


def test_a_thinking_template_is_refused_by_name() -> None:
    thought = (
        "{% if m['role'] == 'assistant' %}assistant: \n</think>\n" + BODY + "</s>{% else %}" + TURN + "{% endif %}"
    )
    with pytest.raises(ConfigError, match="thinking checkpoint"):
        _ = facts(TEMPLATE.replace(TURN, thought))


def test_earlier_answers_without_their_thought() -> None:
    thought = "{% if m['role'] == 'assistant' %}assistant: {{ '<t></t>' if loop.last else '' }}"
    last = TEMPLATE.replace(TURN, thought + BODY + "</s>{% else %}" + TURN + "{% endif %}")
    made = transcript(last.replace("assistant: {% endif %}", "assistant: <t></t>{% endif %}"))
    assert any("records of several answers are refused" in note for note in made.facts.notes)
    assert rendered(made, user(IMAGE, "a"), answer("b")).endswith("<t></t>b</s>")
    with pytest.raises(RecordError, match=r"data.json, record 7: .*thinking templates do. Split the record"):
        rendered(made, user(IMAGE, "a"), answer("b"), user("c"), answer("d"))


def test_what_a_template_moves_or_takes_away_is_said() -> None:
    assert template_notes(encoder_of(TINY["llava"].build(0)[1])) == [
        "The chat template writes a turn's pictures before the words, wherever the record has them."
    ]
    gemma = template_notes(encoder_of(TINY["gemma3"].build(0)[1]))
    assert [note.removeprefix("The chat template ")[:28] for note in gemma] == [
        "writes a system message into", "takes away blanks at both en", "takes away blanks at both en",
    ]  # fmt: skip
    assert template_notes(encoder_of(TINY["paligemma"].build(0)[1])) == []


def test_a_system_message_that_is_written_twice_is_refused() -> None:
    twice = "{% if m['role'] == 'system' %}{{ m['content'][0]['text'] }}{% endif %}" + TURN
    made = transcript(TEMPLATE.replace(TURN, twice))
    with pytest.raises(RecordError, match="writes the system message's words 2 times"):
        rendered(made, system("Be short."), user("what?"), answer("cat"))
    assert rendered(made, user("what?"), answer("cat")) == "user: what?</s>assistant: cat</s>"


@pytest.mark.parametrize(("said", "error"), [("{{ 1 / 0 }}", "ZeroDivisionError"), ("{{ '' + 1 }}", "TypeError")])
def test_an_error_of_any_type_names_the_record(said: str, error: str) -> None:
    broken = "{% if m['content'][0]['text'] == 'boom' %}" + said + "{% endif %}"
    made = transcript(TEMPLATE.replace(TURN, broken + TURN))
    with pytest.raises(RecordError, match=f"data.json, record 7: the checkpoint's chat template refuses it: {error}"):
        rendered(made, user("boom"), answer("cat"))


def test_facts_do_not_outlive_a_changed_template() -> None:
    processor = tiny_models.llava_processor()
    before = template_facts(processor)
    processor.chat_template = TEMPLATE
    assert template_facts(processor) != before
