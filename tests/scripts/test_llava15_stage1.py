"""Tests of the assembled LLaVA-1.5 checkpoint: it is its three parts, and a run takes it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from llava15_stage1 import main
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPImageProcessorPil,
    CLIPVisionModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from tests.support import tiny_models

CONFIG = tiny_models.llava_config(tiny_models.llava_processor())


def write_words(folder: Path) -> LlamaForCausalLM:
    """A language model whose tokenizer has neither `<image>` nor `<pad>`, as Vicuna's."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        tiny_models.CORPUS,
        trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet),
    )
    plain = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")
    plain.save_pretrained(folder)
    config = CONFIG.text_config
    config.vocab_size = len(plain)
    model = LlamaForCausalLM(config).eval()
    tiny_models.enlarge(model)
    model.save_pretrained(folder)
    # Vicuna's own settings, which save_pretrained refuses: they mean nothing without sampling.
    (folder / "generation_config.json").write_text('{"bos_token_id": 0, "eos_token_id": 1, "temperature": 0.9}')
    return model


def write_tower(folder: Path) -> CLIPVisionModel:
    model = CLIPVisionModel(CONFIG.vision_config).eval()
    tiny_models.enlarge(model)
    model.save_pretrained(folder)
    side = {"height": 28, "width": 28}
    CLIPImageProcessorPil(size=side, crop_size=side).save_pretrained(folder)
    return model


def write_projector(file: Path) -> nn.Sequential:
    """LLaVA's own form of it: a `mlp2x_gelu`, under the names of its checkpoints."""
    layers = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64))
    torch.save({f"model.mm_projector.{name}": tensor for name, tensor in layers.state_dict().items()}, file)
    return layers


@torch.no_grad()
def by_hand(words: LlamaForCausalLM, tower: CLIPVisionModel, projector: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """What LLaVA-1.5 computes: the tower's last layer but one without its class token, projected into the row."""
    seen = tower(inputs["pixel_values"], output_hidden_states=True).hidden_states[-2][:, 1:]
    row = inputs["input_ids"].clone()
    image = row >= words.config.vocab_size
    row[image] = 0
    embedded = words.get_input_embeddings()(row)
    embedded[image] = projector(seen)[0]
    logits: Tensor = words(inputs_embeds=embedded).logits
    return logits


@pytest.fixture
def parts(tmp_path: Path) -> tuple[LlamaForCausalLM, CLIPVisionModel, nn.Sequential]:
    torch.manual_seed(3)
    return write_words(tmp_path / "words"), write_tower(tmp_path / "tower"), write_projector(tmp_path / "projector.bin")


def put_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    places = {"language_model": "words", "vision_tower": "tower", "projector": "projector.bin", "output": "made"}
    options = [word for name, place in places.items() for word in (f"--{name}", str(folder / place))]
    monkeypatch.setattr(sys, "argv", ["llava15_stage1.py", *options])
    main()
    return folder / "made"


def test_it_computes_what_its_parts_compute(
    parts: tuple[LlamaForCausalLM, CLIPVisionModel, nn.Sequential], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put_together(tmp_path, monkeypatch)
    model, processor = AutoModelForImageTextToText.from_pretrained(made).eval(), AutoProcessor.from_pretrained(made)
    words = parts[0].config.vocab_size
    assert (model.config.image_token_id, processor.tokenizer.pad_token_id) == (words, words + 1)
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (1, words + 1)
    assert model.get_output_embeddings().out_features % 64 == 0
    inputs = dict(
        processor(text=["USER: <image>\nred? ASSISTANT:"], images=[tiny_models.picture(1)], return_tensors="pt")
    )
    assert (inputs["input_ids"] == words).sum() == 4
    with torch.no_grad():
        found = model(**inputs).logits[..., :words]
    torch.testing.assert_close(found, by_hand(*parts, inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("parts")
def test_another_projector_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"model.mm_projector.weight": torch.ones(64, 64)}, tmp_path / "projector.bin")
    with pytest.raises(SystemExit, match=r"holds model\.mm_projector\.weight\. LLaVA-1\.5's projector has two layers"):
        put_together(tmp_path, monkeypatch)
    assert not (tmp_path / "made").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(SystemExit, match="exists"):
        put_together(tmp_path, monkeypatch)
