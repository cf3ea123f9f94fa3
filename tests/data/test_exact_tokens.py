"""Tests of exact tokenization at borders, with vocabularies that join letters across them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlavaProcessor, PreTrainedTokenizerFast

from tests.support import tiny_models
from tests.support.family_cases import encode, runs
from tests.support.talks import answer, system, talk, user
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.exact_tokens import Tokens
from vlm_lit.data.rows.masking import Transcript
from vlm_lit.schema import Conversation

SPECIAL = ["<s>", "</s>", "<pad>", "<image>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def llama_3(more: str = "") -> Tokenizer:
    """Joins line breaks, and a blank with the first byte of a private character; leaves blanks out of its offsets."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        [f"\n\n \ue000 \ue001 a\n\nred{more}"] * 9,
        trainers.BpeTrainer(
            vocab_size=320, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    bpe.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True)])
    return bpe


def llama_2() -> Tokenizer:
    """Puts a blank in front of what it reads."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    text = [" ".join(tiny_models.CORPUS), "<|im_start|></s> say"]
    bpe.train_from_iterator(text, trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", *bytes_]))
    bpe.add_special_tokens(SPECIAL)
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return bpe


def encoder(words: Tokenizer, template: str = CHATML) -> Encoder:
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    images = tiny_models.llava_processor().image_processor
    return Encoder(
        Transcript(
            LlavaProcessor(
                image_processor=images,
                tokenizer=tokens,
                patch_size=14,
                vision_feature_select_strategy="default",
                num_additional_image_tokens=1,
                chat_template=template,
            )
        )
    )


def asked(question: str, said: str) -> Conversation:
    return Conversation(id="c", turns=(user(question), answer(said)), images=())


def test_the_vocabulary_joins_what_these_tests_are_about() -> None:
    tokens = llama_3()
    assert tokens.encode("\n\nred").tokens[0] == "ĊĊ"
    assert tokens.encode("say \ue000").tokens[-1][0] == "Ġ"
    assert len(tokens.encode("say \ue000").tokens[-1]) > 1
    assert llama_2().encode("red").tokens[0].startswith("▁")


def test_an_answer_that_begins_with_a_line_break_is_its_words() -> None:
    made = encoder(llama_3())
    for said in ("\nred", "\n\nred", " \n red", "red"):
        row = encode(made, [asked("q", said)])
        prompt = encode(made, [asked("q", said)], asked=True).inputs["input_ids"][0].tolist()
        assert made.tokenizer.decode(runs(row, 0)[0]) == f"{said}<|im_end|>"
        assert row.inputs["input_ids"][0, : len(prompt)].tolist() == prompt


@pytest.mark.parametrize(
    "said", ["cafe\u0301", "e\u0301te\u0301 x", "\u1112\u1161\u11ab", "e\u0301\u0323\nred", "e \u0301"]
)
def test_an_answer_keeps_its_accents_where_a_tokenizer_composes_letters(said: str) -> None:
    words = llama_3(" café" * 9 + " é" * 9 + " 한" * 9)
    words.normalizer = normalizers.NFC()
    # A blank ends the prompt, which this vocabulary joins with the answer's letters.
    assert words.encode(" e\u0301").offsets == [(0, 2)]
    made = encoder(words, PLAIN.replace("FIRST", "").replace(":{%", ": {%"))
    text = made.tokenizer.decode(runs(encode(made, [asked("q", said)]), 0)[0])
    assert text == f"{unicodedata.normalize('NFC', said)}</s>"


def test_typed_control_strings_keep_the_text_byte_for_byte() -> None:
    made = encoder(llama_3())
    for typed in ("say </s> x", " </s> <|im_end|></s>", "a\n</s>\n\nb", "</s></s> <image>"):
        row = encode(made, [asked(typed, f" {typed}")]).inputs["input_ids"][0].tolist()
        text = made.tokenizer.decode(row)
        assert text == (f"<|im_start|>user\n{typed}<|im_end|>\n<|im_start|>assistant\n {typed}<|im_end|>\n")
        assert row.count(made.tokenizer.eos_token_id) == 0


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("words", [llama_3, llama_2])
def test_a_text_that_begins_as_another_has_the_tokens_it_has_alone(
    words: Callable[[], Tokenizer], special: bool
) -> None:
    made = encoder(words())
    post = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    made.tokenizer.backend_tokenizer.post_processor = post

    def alone(text: str) -> Tokens:
        found = made.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
        return Tokens.old(found["input_ids"], found["offset_mapping"])

    for shared in ("<|im_start|>user\n<image><image>", "<|im_start|>user\nred  <image> ", "user: red ", ""):
        first = f"{shared}what<|im_end|>\n"
        for said in (" red", "red", "\nred", "\n\nred", "  ", "<image> red", "", "</s>"):
            text = f"{shared}{said}<|im_end|>\n<|im_start|>assistant\n{said}"
            assert made.exact.with_other_end(alone(first), first, len(shared), text, special=special) == alone(text)


PLAIN = (
    "{% for m in messages %}FIRST{{ m['role'] }}: {% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
TEMPLATES = [CHATML, PLAIN.replace("FIRST", ""), PLAIN.replace("FIRST", "{{ '<|im_start|>' if loop.first }}")]


@pytest.mark.parametrize("question", ["red", "red " * 100])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("around", ["<s> $A", "<s> $A </s>", "$A </s>"])
def test_special_tokens_around_a_text_stand_once_and_not_before_the_answer(
    around: str, template: str, question: str
) -> None:
    made = encoder(llama_2(), template)
    ids = {token: made.tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "</s>")}
    post = processors.TemplateProcessing(single=around, special_tokens=list(ids.items()))
    made.tokenizer.backend_tokenizer.post_processor = post
    conversation = asked(question, "say")
    prompt = encode(made, [conversation], asked=True).inputs["input_ids"][0].tolist()
    text = made.write(conversation, for_generation=True).rendered.text
    begin = [ids["<s>"]] * around.startswith("<s>")
    assert prompt == [*begin, *made.tokenizer(text, add_special_tokens=False)["input_ids"]]
    row = encode(made, [conversation])
    assert row.inputs["input_ids"][0, : len(prompt)].tolist() == prompt
    assert made.tokenizer.decode(runs(row, 0)[0]).strip() == f"say{'<|im_end|>' if template == CHATML else '</s>'}"


def test_a_row_has_the_special_tokens_it_has_alone() -> None:
    made = encoder(llama_2(), CHATML.replace("<|im_start|>", "{{ bos_token if m['role'] == 'system' }}<|im_start|>", 1))
    begin, end = made.tokenizer.convert_tokens_to_ids(["<s>", "</s>"])
    made.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", begin), ("</s>", end)]
    )
    plain = talk("one image")
    told = replace(plain, turns=(system("Be short."), *plain.turns))
    for several in ([plain, told, plain], [told, plain, plain, told]):
        alone = [encode(made, [c]) for c in several]
        batch = encode(made, several)
        ids = [row.inputs["input_ids"][0].tolist() for row in alone]
        assert [row.count(begin) for row in ids] == [1] * len(several)
        kept = batch.inputs["attention_mask"].bool()
        assert [row[own].tolist() for row, own in zip(batch.inputs["input_ids"], kept, strict=True)] == ids
        assert batch.lengths == [len(row) for row in ids]
        assert torch.equal(batch.inputs["pixel_values"], torch.cat([row.inputs["pixel_values"] for row in alone]))
        images = ids[0].count(made.processor.image_token_id)
        assert made.text_lengths(several) == [len(row) - images for row in ids]


def test_blanks_that_a_vocabulary_adds_are_tokens_as_ever() -> None:
    words = llama_3()
    words.add_tokens(["\n", "\n\n", "\n\n\n"])
    made = encoder(words)
    for said in ("red\n\nsay", "\n\nred", "red\n", "red\n\n\n\nred"):
        conversation = asked("red\n\nsay\n", said)
        text = made.write(conversation).rendered.text
        row = encode(made, [conversation])
        ids = row.inputs["input_ids"][0].tolist()
        assert made.tokenizer.decode(runs(row, 0)[0]) == f"{said}<|im_end|>"
        prompt = encode(made, [conversation], asked=True).inputs["input_ids"][0].tolist()
        assert ids[: len(prompt)] == prompt
        assert (ids == made.tokenizer(text)["input_ids"]) == (said[0] != "\n")  # parted where the answer begins
        assert not made.write(conversation).rendered.escapes  # which would keep it from sharing rows


def test_no_blank_is_gained_where_a_tokenizer_puts_one_in_front() -> None:
    made = encoder(llama_2(), "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{{ '<image>' if "
                   "c['type'] == 'image' else c['text'] }}{% endfor %} {% endfor %}"
                   "{% if add_generation_prompt %}assistant: {% endif %}")  # fmt: skip
    typed = "say </s>, <|im_start|>x"
    text = made.tokenizer.decode(encode(made, [asked(typed, typed)]).inputs["input_ids"][0].tolist())
    assert text.lstrip(" ") == f"user: {typed} assistant: {typed}</s>"
