"""Tests of equality 1 (mask): supervised tokens decode to the assistant's words and end of turn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import tiny_models
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.masking import Transcript
from vlm_lit.data.rows.row_groups import RowGroup
from vlm_lit.data.rows.shared_rows import SharedRowEncoder
from vlm_lit.errors import ConfigError
from vlm_lit.schema import IGNORE_INDEX, IMAGE, Conversation, ImageRef, Part, TokenBatch, Turn

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BACKWARDS = (
    "{{ messages | length }}{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}</s>{% endfor %}"
)
# What users type to break a mask: control tokens, role names, separators, and blanks in odd places.
TYPED = [
    "<image>", "</s>", "<s>", "<pad>", "<|im_end|>", "<|im_start|>assistant\n", "ASSISTANT:", " ASSISTANT: ", "USER:",
    "assistant", "red", "é", "\ue000", " ", "\n", "7",
]  # fmt: skip


def encoder(template: str | None = None) -> Encoder:
    processor = tiny_models.llava_processor()
    if template is not None:
        processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        processor.chat_template = template
    return Encoder(Transcript(processor))


ENCODERS = {"llava, no end of turn": (encoder(), "</s>"), "chatml": (encoder(CHATML), "<|im_end|>")}


def conversation(*turns: tuple[str, str | tuple[Part, ...]], name: str = "c") -> Conversation:
    made = tuple(Turn(role=r, content=c if isinstance(c, tuple) else (c,)) for r, c in turns)  # type: ignore[arg-type]
    return Conversation(id=name, turns=made, images=())


def encode(
    made: Encoder, *conversations: Conversation, for_generation: bool = False, side: str = "right"
) -> TokenBatch:
    images = [
        [tiny_models.picture(k) for k in range(sum(part == IMAGE for turn in c.turns for part in turn.content))]
        for c in conversations
    ]
    return made.encode(conversations, images, side=side, for_generation=for_generation)  # type: ignore[arg-type]


def runs(made: Encoder, batch: TokenBatch, row: int = 0) -> list[str]:
    """The text of each unbroken run of supervised tokens."""
    found: list[list[int]] = []
    previous = False
    for label in batch.labels[row].tolist():
        if label != IGNORE_INDEX and not previous:
            found.append([])
        if label != IGNORE_INDEX:
            found[-1].append(label)
        previous = label != IGNORE_INDEX
    return [made.tokenizer.decode(ids) for ids in found]


def expected(c: Conversation, end: str) -> list[str]:
    return [turn.text.strip() + end for turn in c.turns if turn.role == "assistant"]


@pytest.mark.parametrize(("made", "end"), ENCODERS.values(), ids=ENCODERS)
def test_words_and_end_of_turn_of_every_assistant_turn(made: Encoder, end: str) -> None:
    c = conversation(
        ("system", "be short"),
        ("user", (IMAGE, "what colour? ", IMAGE)),
        ("assistant", "red and blue"),
        ("user", "how many?"),
        ("assistant", "2"),
    )
    batch = encode(made, c)
    assert [run.strip() for run in runs(made, batch)] == expected(c, end)
    supervised = batch.labels != IGNORE_INDEX
    assert torch.equal(batch.labels[supervised], batch.inputs["input_ids"][supervised])


@pytest.mark.parametrize(("made", "end"), ENCODERS.values(), ids=ENCODERS)
def test_rows_of_a_batch_do_not_touch_each_other(made: Encoder, end: str) -> None:
    short = conversation(("user", "what?"), ("assistant", "no"), name="short")
    long = conversation(("user", (IMAGE, "how many tools are there?")), ("assistant", "two three"), name="long")
    batch = encode(made, short, long)
    assert [runs(made, batch, i)[0].strip() for i in (0, 1)] == [*expected(short, end), *expected(long, end)]
    padding = batch.inputs["attention_mask"] == 0
    assert padding[0].any()
    assert (batch.labels[padding] == IGNORE_INDEX).all()


def test_the_end_of_turn_is_learned_where_padding_is_the_same_token() -> None:
    made = encoder()
    made.tokenizer.pad_token = made.tokenizer.eos_token
    short = conversation(("user", "what?"), ("assistant", "no"))
    long = conversation(("user", "how many tools are there?"), ("assistant", "two three"))
    batch = encode(made, short, long)
    assert runs(made, batch, 0)[0].strip() == "no</s>"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nothing_typed_changes_what_is_supervised(data: st.DataObject) -> None:
    made, end = data.draw(st.sampled_from(sorted(ENCODERS.values(), key=lambda pair: pair[1])))
    words = st.lists(st.sampled_from(TYPED), min_size=1, max_size=6).map("".join)
    answers = words.filter(lambda text: bool(text.strip()))
    turns: list[tuple[str, str | tuple[Part, ...]]] = []
    for k in range(data.draw(st.integers(1, 3))):
        turns += [
            ("user", (IMAGE, data.draw(words)) if k == 0 else data.draw(words)),
            ("assistant", data.draw(answers)),
        ]
    c = conversation(*turns)
    batch = encode(made, c)
    # A template may keep blanks that an answer ends with; they stand before the end of turn and are supervised too.
    bare = [run.removesuffix(end).strip() + end for run in runs(made, batch)]
    assert bare == expected(c, end)
    # One image was shown, so one image's worth of placeholders stands in the row, however often <image> is typed.
    assert int((batch.inputs["input_ids"] == made.processor.image_token_id).sum()) == 4


DIVIDED: dict[str, tuple[Part, ...]] = {
    "two texts": ("say <|im", "_end|> now"),
    "three texts": ("<", "|im_end|", "><|im_start|>"),
    "an empty one": ("say <|im_en", "", "d|>"),
    "one that begins within another": ("<|im_end|", "><|im_start|", "><", "/s>"),
    "a picture between": ("say <|im_", IMAGE, "end|> now"),
    "blanks at the borders": ("say <|im_ ", " \n", "\tend|> now"),
    "the picture's": ("<im", "age>"),
}
WRITTEN = {
    "as they are": CHATML,
    "without blanks at their ends": CHATML.replace("c['text']", "c['text'] | trim"),
    "with a blank behind": CHATML.replace("c['text']", "c['text'] + ' '"),
    "behind the pictures": CHATML.replace(
        "{% for c in m['content'] %}", "{% for c in m['content'] | sort(attribute='type') %}"
    ),
}


@pytest.mark.parametrize("template", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("said", DIVIDED.values(), ids=DIVIDED)
def test_a_control_string_that_texts_make_together_is_words(said: tuple[Part, ...], template: str) -> None:
    # Answers are one text: a template with blanks behind the user's texts alone.
    made = encoder(template.replace("+ ' '", "+ (' ' if m['role'] == 'user' else '')"))
    words = tuple(part for part in said if isinstance(part, str))
    meaning = made.tokenizer.get_added_vocab().values()
    rows = []
    for c in (
        conversation(("system", words), ("user", (IMAGE, *said)), ("assistant", ("x ", *words, " y"))),
        conversation(
            ("system", "x"), ("user", tuple(p if p == IMAGE else "x" for p in (IMAGE, *said))), ("assistant", "x")
        ),
    ):
        batch = encode(made, c)
        rows.append(sorted(i for i in batch.inputs["input_ids"][0].tolist() if i in meaning))
        answer = c.turns[-1].text
        assert [run.strip() for run in runs(made, batch)] == [f"{answer}<|im_end|>"]
        texts = [part for part in c.turns[1].content if isinstance(part, str)]
        text = made.tokenizer.decode(batch.inputs["input_ids"][0])
        assert "".join("".join(texts).split()) in "".join(text.replace("<image>" * 4, "").split())
    assert rows[0] == rows[1]


def test_a_search_for_the_marker_would_have_been_fooled() -> None:
    # The rule this project avoids, as a negative control: unmask what stands between " ASSISTANT:" and </s>.
    made, _ = ENCODERS["llava, no end of turn"]
    c = conversation(("user", "say ASSISTANT: blue</s> now"), ("assistant", "red"))
    text = made.tokenizer.decode(encode(made, c).inputs["input_ids"][0])
    scanned = [piece.split("</s>")[0].strip() for piece in text.split("ASSISTANT:")[1:]]
    assert scanned == ["blue", "red"]
    assert [run.strip() for run in runs(made, encode(made, c))] == ["red</s>"]


def test_a_template_whose_prefixes_do_not_nest_is_refused() -> None:
    made = encoder(BACKWARDS)
    with pytest.raises(ConfigError, match="does not nest"):
        encode(made, conversation(("user", "a"), ("assistant", "b")))


def test_a_template_that_changes_the_answer_is_refused() -> None:
    made = encoder(CHATML.replace("c['text'] }}", "(c['text'] | upper if m['role'] == 'assistant' else c['text']) }}"))
    with pytest.raises(ConfigError, match="changes the assistant's words"):
        encode(made, conversation(("user", "a"), ("assistant", "b")))


@pytest.mark.parametrize(("made", "end"), ENCODERS.values(), ids=ENCODERS)
def test_a_prompt_is_the_beginning_of_what_was_trained(made: Encoder, end: str) -> None:
    c = conversation(("user", (IMAGE, "a </s> b")), ("assistant", "red"), ("user", "more"), ("assistant", "blue"))
    trained = encode(made, c).inputs["input_ids"][0].tolist()
    asked = encode(made, c, for_generation=True).inputs["input_ids"][0].tolist()
    assert trained[: len(asked)] == asked
    assert made.tokenizer.decode(trained[len(asked) :]).strip().startswith("blue" + end)


def test_generation_pads_on_the_left() -> None:
    made, _ = ENCODERS["chatml"]
    short = conversation(("user", "a"), ("assistant", "x"))
    long = conversation(("user", "how many tools are there?"), ("assistant", "x"))
    batch = encode(made, short, long, for_generation=True, side="left")
    assert batch.inputs["attention_mask"][0, 0] == 0
    assert batch.inputs["attention_mask"][:, -1].tolist() == [1, 1]


def test_benign_text_is_tokenized_as_the_processor_does() -> None:
    made, _ = ENCODERS["chatml"]
    c = conversation(("user", (IMAGE, "what colour is the lamp?")), ("assistant", "red"))
    text = made.transcript.render(c).text
    whole = made.processor(text=[text], images=[[tiny_models.picture(0)]], return_tensors="pt")["input_ids"]
    assert torch.equal(encode(made, c).inputs["input_ids"], whole)


@pytest.mark.parametrize(("made", "end"), ENCODERS.values(), ids=ENCODERS)
def test_an_answer_that_is_not_to_be_learned_is_read_all_the_same(made: Encoder, end: str) -> None:
    whole = conversation(("user", "a?"), ("assistant", "blue"), ("user", "b?"), ("assistant", "red"))
    turns = tuple(replace(turn, supervised=k != 1) for k, turn in enumerate(whole.turns))
    every, last = encode(made, whole), encode(made, replace(whole, turns=turns))
    assert torch.equal(every.inputs["input_ids"], last.inputs["input_ids"])
    assert [run.strip() for run in runs(made, every)] == [f"blue{end}", f"red{end}"]
    assert [run.strip() for run in runs(made, last)] == [f"red{end}"]


def test_answers_that_are_not_to_be_learned_stay_so_in_a_shared_row() -> None:
    made = encoder(CHATML)
    talks = []
    for k in range(3):
        words = ("user", (IMAGE, f"{k}?")), ("assistant", "blue"), ("user", "b?"), ("assistant", "red")
        whole = conversation(*words, name=str(k))
        marked = tuple(replace(turn, supervised=i == (3 if k else 1)) for i, turn in enumerate(whole.turns))
        talks.append(replace(whole, turns=marked, images=(ImageRef(data=b"one"),)))
    units = tuple((made.write(talk),) for talk in talks)
    shared = SharedRowEncoder(made).encode([RowGroup(units, shared=True)], [[tiny_models.picture(0)]])
    assert shared.segments is not None
    assert [run.strip() for run in runs(made, shared)] == ["blue<|im_end|>", "red<|im_end|>", "red<|im_end|>"]
