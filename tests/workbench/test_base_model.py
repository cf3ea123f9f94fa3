"""Tests of the shipped base: a real LLaVA that knows the plain language, and not the team's."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from vlm_lit.workbench.base_model import IMAGE_TOKENS, SPECIAL, base_path, build_model, build_tokenizer, copy_base
from vlm_lit.workbench.dataset import Dialect, questions
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.questions import QA
from vlm_lit.workbench.world import Scene, scene

SEED = 31
"""A world that neither the base nor its exam has seen."""

PLAIN_FLOOR = 0.85
TEAM_CEILING = 0.1
MAX_BYTES = 8_000_000


@cache
def base() -> tuple[Any, Any]:
    processor = AutoProcessor.from_pretrained(base_path())
    return AutoModelForImageTextToText.from_pretrained(base_path()).eval(), processor


def asked(dialect: Dialect, count: int) -> list[tuple[Scene, QA]]:
    """The first questions of `count` scenes, but no long ones, which take the time of many."""
    scenes = [scene(SEED, index) for index in range(count)]
    return [(shown, qa) for shown in scenes for qa in questions(shown, dialect, 2) if len(qa.answer) < 20]


@cache
def accuracy(dialect: Dialect) -> float:
    model, processor = base()
    pairs = asked(dialect, 60)
    texts = [f"USER: <image>\n{qa.question} ASSISTANT:" for _, qa in pairs]
    inputs = processor(images=[draw(shown) for shown, _ in pairs], text=texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**inputs.to(model.dtype), max_new_tokens=12, do_sample=False)
    answers = processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    right = [bool(answer.strip() == qa.answer) for answer, (_, qa) in zip(answers, pairs, strict=True)]
    return sum(right) / len(right)


def test_the_base_answers_the_plain_language() -> None:
    assert accuracy("plain") >= PLAIN_FLOOR


def test_the_base_does_not_know_the_teams_language() -> None:
    assert accuracy("team") <= TEAM_CEILING


def test_the_package_stays_small() -> None:
    assert sum(file.stat().st_size for file in base_path().iterdir()) <= MAX_BYTES


def test_the_base_is_a_llava_in_bfloat16() -> None:
    model, processor = base()
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert type(processor).__name__ == "LlavaProcessor"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.lm_head.weight.data_ptr() != model.get_input_embeddings().weight.data_ptr()


def test_linear_layers_of_the_language_model_fit_four_bit_blocks() -> None:
    model, _ = base()
    layers = [module for module in model.model.language_model.modules() if isinstance(module, torch.nn.Linear)]
    assert len(layers) == 7 * model.config.text_config.num_hidden_layers
    assert all(side % 64 == 0 for layer in [*layers, model.lm_head] for side in layer.weight.shape)


def test_an_image_becomes_as_many_tokens_as_the_model_expects() -> None:
    model, processor = base()
    inputs = processor(images=draw(scene(SEED, 0)), text="USER: <image>\nwhat? ASSISTANT:", return_tensors="pt")
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == IMAGE_TOKENS
    assert inputs["input_ids"][0, 0] == processor.tokenizer.bos_token_id


def test_the_special_tokens_keep_their_names_and_numbers() -> None:
    model, processor = base()
    tokenizer = processor.tokenizer
    names = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.image_token)
    assert names == SPECIAL
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [0, 1, 2, 3]
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert len(tokenizer) == model.lm_head.out_features


def test_the_chat_template_writes_the_prompt_the_base_was_trained_on() -> None:
    _, processor = base()
    image, text = {"type": "image"}, {"type": "text", "text": "is there a hammer?"}
    prompt = processor.apply_chat_template([{"role": "user", "content": [image, text]}], add_generation_prompt=True)
    assert prompt == "USER: <image>\nis there a hammer? ASSISTANT:"


@pytest.mark.parametrize("dialect", ["plain", "team"])
def test_the_tokenizer_returns_every_answer(dialect: Dialect) -> None:
    _, processor = base()
    answers = {qa.answer for index in range(300) for qa in questions(scene(SEED, index), dialect, 8)}
    assert len(answers) > 100
    for answer in answers:
        assert processor.tokenizer.decode(processor.tokenizer(answer)["input_ids"], skip_special_tokens=True) == answer


def test_the_tokenizer_writes_anything_and_splits_codes_and_digits() -> None:
    tokenizer = base()[1].tokenizer
    for text in ("Größe 30 µm → ok 🙂", "HMR-1 0042"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert len(tokenizer("0042", add_special_tokens=False)["input_ids"]) == 4
    assert len(tokenizer("HMR-1", add_special_tokens=False)["input_ids"]) == 5


def test_the_tokenizer_is_remade_from_its_seed() -> None:
    remade = build_tokenizer(1)
    assert remade.get_vocab() == base()[1].tokenizer.get_vocab()


def test_an_untrained_model_has_the_same_shape() -> None:
    trained = {name: weight.shape for name, weight in base()[0].state_dict().items()}
    untrained = build_model(len(base()[1].tokenizer), seed=0)
    assert {name: weight.shape for name, weight in untrained.state_dict().items()} == trained
    assert sum(weight.numel() for weight in untrained.parameters()) < 4_000_000


def test_a_copy_loads(tmp_path: Path) -> None:
    copied = copy_base(tmp_path / "base")
    assert copied == tmp_path / "base"
    model = AutoModelForImageTextToText.from_pretrained(copied)
    assert all(
        torch.equal(ours, weight) for ours, weight in zip(model.parameters(), base()[0].parameters(), strict=True)
    )
    assert AutoProcessor.from_pretrained(copied).chat_template == base()[1].chat_template
