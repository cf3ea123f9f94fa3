"""Tests of chat templates that never end, or write without end: stopped in seconds, and named."""

from __future__ import annotations

from datetime import datetime

import pytest
from jinja2 import TemplateError
from transformers.utils import chat_template_utils

from tests.support import tiny_models
from tests.support.talks import answer, user
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.checkpoint import bounded_template
from vlm_lit.data.checkpoint.bounded_template import bounded
from vlm_lit.data.checkpoint.template_day import templates_on
from vlm_lit.data.rows.masking import Transcript
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import Conversation, Turn

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
LOOPS = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
LONG = "{% set x = 'a' * 100000 %}"

BOMBS = {
    "loops": LOOPS,
    "loops with a condition": LOOPS.replace("b in range(100000)", "b in range(100000) if b > a"),
    "calls without end": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "calls, many": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
    "a loop in itself": "{% for x in [[1]] recursive %}{{ loop([x, x]) }}{% endfor %}",
    "a text a billion times": "{{ 'x' * 10000000000 }}",
    "a billion times a text": "{{ 10000000000 * 'x' }}",
    "a long list": "{% for a in [0] * 9999999999 %}{% endfor %}",
    "a power": "{{ 10 ** 10 ** 10 }}",
    "powers": "{% set x = 9 ** 999 %}" + "{% set x = x * x %}" * 60,
    "a text doubled": "{% set n = namespace(x='aaaa') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "a text added": "{% set n = namespace(x='aaaa') %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "a block doubled": "{% set x = 'aaaa' %}" + "{% set x %}{{ x }}{{ x }}{{ x }}{{ x }}{% endset %}" * 30,
    "lists of lists": "{% set x = [1, 2] %}" + "{% set x = [x, x] %}" * 60 + "{{ x }}",
    "mappings of mappings": "{% set x = {'a': 1} %}" + "{% set x = {'a': x, 'b': x} %}" * 60 + "{{ x | tojson }}",
    "mappings by a call": "{% set x = dict(a=1) %}" + "{% set x = dict(a=x, b=x) %}" * 60 + "{{ x }}",
    "namespaces": "{% set x = namespace(a=1) %}" + "{% set x = namespace(a=x, b=x) %}" * 60 + "{{ x }}",
    "blanks by a filter": "{{ 'x' | center(10000000000) }}",
    "blanks by a method": "{{ 'x'.ljust(10000000000) }}",
    "blanks by a format": "{{ '%10000000000d' % 1 }}",
    "blanks by the filter format": "{{ '%10000000000d' | format(1) }}",
    "blanks by the method format": "{{ '{:10000000000}'.format(1) }}",
    "blanks by a width": "{{ '{:{w}}'.format(1, w=99999999999) }}",
    "tabulators": "{{ ('\t' * 100000).expandtabs(10000) }}",
    "replacement": LONG + "{{ x.replace('a', x) }}",
    "replacement by a filter": LONG + "{{ x | replace('a', x) }}",
    "many texts joined": LONG + "{{ ([x] * 100000) | join }}",
    "texts joined by a long one": LONG + "{{ range(100000) | join(x) }}",
    "texts joined by a method": LONG + "{{ x.join(range(100000) | map('string') | list) }}",
    "lines moved": "{{ ('a\n' * 100000) | indent(10000) }}",
    "lines of JSON moved": "{{ ([[[[[1]]]]] * 10000) | tojson(indent=10000) }}",
    "lists added up": "{{ ([[1]] * 100000) | sum(start=[]) }}",
    "much output": "{% for a in range(100000) %}{{ 'a' * 10000 }}{% endfor %}",
    "long texts compared": LONG + "{% set x = x * 80 %}{% for a in range(100000) %}{{ 'ab' in x }}{% endfor %}",
    "numbers sorted": "{% for a in range(100000) %}{% set y = range(100000) | list | sort %}{% endfor %}",
    "words of Latin": "{{ lipsum(10000000) }}",
    "brackets": "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}",
    "a long template": "x" * 300_000,
}


@pytest.mark.timeout(30)  # 2 s on an idle machine, and most of these would never end
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_it_is_stopped(bomb: str) -> None:
    with pytest.raises((TemplateError, RecursionError, TypeError)) as stopped:
        bounded(bomb).render(messages=[{"role": "user", "content": "hi"}])
    if isinstance(stopped.value, TypeError):
        assert "lipsum" in bomb  # it is not there


@pytest.mark.timeout(60)
def test_at_load() -> None:
    processor = tiny_models.llava_processor()
    processor.chat_template = TEMPLATE + LOOPS
    with pytest.raises(
        ConfigError, match=r"does not end by itself: it was stopped after .* another chat_template.jinja"
    ):
        _ = Transcript(processor).facts


@pytest.mark.timeout(60)
def test_on_one_record_alone() -> None:
    processor = tiny_models.llava_processor()
    processor.chat_template = "{% if messages[0]['content'][0]['text'] == 'boom' %}" + LOOPS + "{% endif %}" + TEMPLATE
    made = Transcript(processor)
    assert made.render(said(user("a"), answer("b"))).text == "user: a</s>assistant: b</s>"
    with pytest.raises(RecordError, match="chat template does not end on it: it was stopped") as refused:
        made.render(said(user("boom"), answer("b")))
    assert refused.value.code == "template.stopped"


def said(*turns: Turn) -> Conversation:
    return Conversation(id="c", turns=turns, images=(), file="data.json", record="7")


def conversation(turns: int, words: str) -> list[dict[str, object]]:
    asked = [{"type": "image"}, {"type": "text", "text": words}]
    return [{"role": "assistant" if k % 2 else "user", "content": asked[1:] if k else asked} for k in range(turns)]


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize(
    ("turns", "words"), [(1, "what? {{ a }}"), (7, " a\n"), (200, "words " * 20), (2, "w" * 10**6)]
)
def test_what_real_templates_write_stays_the_same(family: str, turns: int, words: str) -> None:
    processor = TINY[family].build(0)[1]
    source = getattr(processor, "chat_template", None)
    if not isinstance(source, str):
        pytest.skip("it has no template")
    given = {**processor.tokenizer.special_tokens_map, "messages": conversation(turns, words), "date_string": "1 Jan"}
    for asks in (False, True):
        texts = []
        for compiled in (chat_template_utils._cached_compile_jinja_template, bounded):
            try:
                texts.append(compiled(source).render(**given, tools=None, documents=None, add_generation_prompt=asks))
            except TemplateError as refusal:
                texts.append(f"refused: {refusal}")
        assert texts[0] == texts[1]
        assert "stopped" not in texts[0]


def test_the_day_is_another_within_templates_on_alone() -> None:
    template = bounded("{{ strftime_now('%Y') }}")
    with templates_on(datetime(1999, 1, 2)):
        assert template.render() == "1999"
    assert template.render() == chat_template_utils._cached_compile_jinja_template("{{ strftime_now('%Y') }}").render()


def test_transformers_uses_it() -> None:
    processor = tiny_models.llava_processor()
    assert chat_template_utils._compile_jinja_template is bounded_template.bounded
    processor.chat_template = LOOPS
    with pytest.raises(TemplateError, match="it was stopped after"):
        processor.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)


def test_a_rendering_piece_by_piece_has_a_second_of_its_own() -> None:
    """So transformers renders templates that mark the assistant's words."""
    bounded_template._WORK.ends = 0.0  # a rendering of this thread was over long ago
    template = bounded("{% for n in messages %}{{ n | length }}{% endfor %}")
    assert "".join(template.generate(messages=["a" * n for n in range(40)])) == "".join(map(str, range(40)))
    with pytest.raises(bounded_template.TooMuchWorkError):
        for _ in bounded(
            "{% for a in m %}{% for b in m %}{% for c in m %}x{% endfor %}{% endfor %}{% endfor %}"
        ).generate(m=list(range(200))):
            pass
