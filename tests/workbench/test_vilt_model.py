"""Tests of the shipped ViLT: a real classifier with its own vocabulary that sees the workbench."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, ViltForQuestionAnswering, ViltProcessor
from vilt_exam import vilt_answers

from vlm_lit.workbench.dataset import questions
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.questions import QA
from vlm_lit.workbench.vilt_model import (
    VILT_ANSWERS,
    VILT_SPECIAL,
    build_vilt,
    build_vilt_tokenizer,
    classified,
    copy_vilt_base,
    vilt_base_path,
)
from vlm_lit.workbench.world import Scene, scene

SEED = 31
"""A world that neither the base nor its exam has seen."""

FLOOR = 0.80
UNTRAINED_CEILING = 0.35
MAX_BYTES = 4_000_000


@cache
def base() -> tuple[Any, Any]:
    model = ViltForQuestionAnswering.from_pretrained(vilt_base_path(), dtype=torch.float32).eval()
    return model, ViltProcessor.from_pretrained(vilt_base_path())


@cache
def asked() -> list[tuple[Scene, QA]]:
    """200 questions about scenes of another world."""
    scenes = [scene(SEED, index) for index in range(60)]
    return [(shown, qa) for shown in scenes for qa in classified(questions(shown, "plain", 5))][:200]


def accuracy(model: Any) -> float:
    answers = vilt_answers(model, base()[1], asked())
    return sum(said == qa.answer for said, (_, qa) in zip(answers, asked(), strict=True)) / len(answers)


def test_the_base_answers_the_plain_language() -> None:
    assert len(asked()) == 200
    assert accuracy(base()[0]) >= FLOOR


def test_an_untrained_model_of_the_same_shape_does_not() -> None:
    untrained = build_vilt(len(base()[1].tokenizer), seed=0).eval()
    assert {name: weight.shape for name, weight in untrained.state_dict().items()} == {
        name: weight.shape for name, weight in base()[0].state_dict().items()
    }
    assert accuracy(untrained) <= UNTRAINED_CEILING


@pytest.mark.slow
def test_the_base_needs_its_picture() -> None:
    model, _ = base()
    shifted = [(other, qa) for (other, _), (_, qa) in zip([*asked()[100:], *asked()[:100]], asked(), strict=True)]
    said = vilt_answers(model, base()[1], shifted)
    blind = sum(answer == qa.answer for answer, (_, qa) in zip(said, asked(), strict=True)) / len(said)
    assert blind < accuracy(model) - 0.3


def test_the_package_stays_small() -> None:
    assert sum(file.stat().st_size for file in vilt_base_path().iterdir()) <= MAX_BYTES


def test_the_base_is_transformers_vilt_in_bfloat16() -> None:
    model = ViltForQuestionAnswering.from_pretrained(vilt_base_path())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert type(AutoProcessor.from_pretrained(vilt_base_path())).__name__ == "ViltProcessor"


def test_the_vocabulary_is_the_plain_languages_own() -> None:
    config = base()[0].config
    assert [config.id2label[number] for number in range(config.num_labels)] == list(VILT_ANSWERS)
    assert config.label2id == {answer: number for number, answer in enumerate(VILT_ANSWERS)}
    left_out = {
        qa.answer
        for index in range(300)
        for qa in questions(scene(SEED, index), "plain", 8)
        if qa.question_type not in ("describe", "as_json") and qa.answer not in VILT_ANSWERS
    }
    assert not left_out


def test_linear_layers_below_the_classifier_fit_four_bit_blocks() -> None:
    layers = [module for module in base()[0].vilt.modules() if isinstance(module, torch.nn.Linear)]
    assert len(layers) == 6 * base()[0].config.num_hidden_layers + 1
    assert all(side % 64 == 0 for layer in layers for side in layer.weight.shape)


@pytest.mark.parametrize("size", [(224, 224), (64, 64), (320, 200)])
def test_a_picture_becomes_whole_patches(size: tuple[int, int]) -> None:
    model, processor = base()
    inputs = processor(images=draw(scene(SEED, 0)).resize(size), text="what?", return_tensors="pt")
    height, width = inputs["pixel_values"].shape[-2:]
    assert min(height, width) == model.config.image_size
    assert height % model.config.patch_size == width % model.config.patch_size == 0


def test_the_tokenizer_writes_other_words_in_letters_and_keeps_its_numbers() -> None:
    tokenizer = base()[1].tokenizer
    assert tokenizer.convert_tokens_to_ids(list(VILT_SPECIAL)) == [0, 1, 2, 3, 4]
    assert tokenizer.tokenize("is the Hammer red?") == ["is", "the", "hammer", "red", "?"]
    assert tokenizer.tokenize("bay 42") == ["b", "##a", "##y", "4", "##2"]
    for question in ("does the image not contain a gray shape?", "Tally: WRN-2, part code #7!"):
        assert tokenizer.unk_token_id not in tokenizer(question)["input_ids"]
    assert len(tokenizer) == base()[0].config.vocab_size


def test_the_tokenizer_is_remade_from_its_seed() -> None:
    assert build_vilt_tokenizer(1).get_vocab() == base()[1].tokenizer.get_vocab()


def test_a_copy_loads(tmp_path: Path) -> None:
    copied = copy_vilt_base(tmp_path / "base")
    assert copied == tmp_path / "base"
    model = ViltForQuestionAnswering.from_pretrained(copied, dtype=torch.float32)
    assert all(
        torch.equal(ours, weight) for ours, weight in zip(model.parameters(), base()[0].parameters(), strict=True)
    )
