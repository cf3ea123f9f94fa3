"""Tests of the tiny families: small, reloadable, and with logits that depend on the pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, BatchFeature, PreTrainedModel, ProcessorMixin

from tests.support import tiny_models
from tests.support.tiny_families.catalogue import TINY, TinyFamily, save

SIZES = [(40, 32), (64, 20), (24, 48)]
FAMILIES = pytest.mark.parametrize("family", TINY.values(), ids=TINY)


def rendered(family: TinyFamily, processor: ProcessorMixin, pictures: int) -> str:
    if not family.turns:
        return "<image>" * pictures + "what colour?"
    asked = [*({"type": "image"} for _ in range(pictures)), {"type": "text", "text": "what colour?"}]
    answered = [{"type": "text", "text": "red"}]
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return str(processor.apply_chat_template(turns, tokenize=False))


def inputs(family: TinyFamily, processor: ProcessorMixin, shift: int = 0) -> dict[str, Tensor]:
    """One row for each number of pictures the family takes, the pictures of different sizes."""
    texts = [rendered(family, processor, n) for n in family.images]
    images = [[tiny_models.picture(shift + n + k, SIZES[(n + k) % 3]) for k in range(n)] for n in family.images]
    bos = processor.tokenizer.bos_token
    output = processor(
        text=texts,
        images=images,
        padding=True,
        padding_side="right",
        add_special_tokens=not (bos and texts[0].startswith(bos)),
        return_offsets_mapping=True,
        return_text_replacement_offsets=True,
        # With "pt" Idefics3 and InternVL try to make a tensor of the offsets where the first row has no picture.
        return_tensors=None,
    )
    unseen = ("offset_mapping", "text_replacement_offsets", "labels")
    seen = {name: value for name, value in output.items() if name not in unseen}
    return dict(BatchFeature(seen, tensor_type="pt"))


def logits(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**batch).logits
    return found


@FAMILIES
def test_it_is_the_model_type_it_says_and_its_linear_layers_fit_4_bit_kernels(family: TinyFamily) -> None:
    model, _ = family.build(0)
    assert model.config.model_type == family.model_type
    assert not model.training
    decoder = model.get_decoder()
    linear = [layer for layer in decoder.modules() if isinstance(layer, nn.Linear)]
    assert len(linear) >= 14
    assert all(layer.out_features % 32 == 0 and layer.in_features % 64 == 0 for layer in linear)


@FAMILIES
def test_each_seed_gives_its_own_weights_again_and_again(family: TinyFamily) -> None:
    first, again, other = (family.build(seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@FAMILIES
def test_a_saved_one_is_small_and_reloads_bit_for_bit(family: TinyFamily, tmp_path: Path) -> None:
    folder = save(family.name, tmp_path / "saved")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3_000_000
    model, processor = family.build(0)
    reloaded = AutoModelForImageTextToText.from_pretrained(folder)
    assert type(reloaded) is type(model)
    batch = inputs(family, processor)
    assert torch.equal(logits(reloaded, batch), logits(model, batch))
    assert reloaded.state_dict().keys() == model.state_dict().keys()


@FAMILIES
def test_its_pictures_reach_the_logits_of_the_last_token(family: TinyFamily) -> None:
    model, processor = family.build(0)
    one, other = inputs(family, processor), inputs(family, processor, shift=10)
    assert torch.equal(one["input_ids"], other["input_ids"])
    last = one["attention_mask"].sum(dim=1) - 1
    rows = torch.arange(len(last))
    change = (logits(model, one) - logits(model, other))[rows, last].abs().amax(dim=1)
    for pictures, moved in zip(family.images, change.tolist(), strict=True):
        assert pictures == 0 or moved > 0.01


@FAMILIES
def test_the_text_starts_with_one_bos_where_the_family_has_one(family: TinyFamily) -> None:
    _, processor = family.build(0)
    bos = processor.tokenizer.bos_token_id
    ids = inputs(family, processor)["input_ids"]
    assert bos is None or (ids == bos).sum(dim=1).tolist() == [1] * len(ids)


def test_the_tokenizers_that_put_a_bos_in_front_by_themselves() -> None:
    made = {name: family.build(0)[1].tokenizer for name, family in TINY.items()}
    first = {name: tokens("red")["input_ids"][0] for name, tokens in made.items()}
    adding = {name for name, tokens in made.items() if first[name] == tokens.bos_token_id}
    assert adding == {"llava", "pixtral", "llava_next", "idefics3", "mllama", "gemma3"}


@pytest.mark.parametrize("name", ["pixtral", "llava_next", "smolvlm", "idefics3", "qwen2_vl", "internvl"])
def test_pictures_of_other_sizes_take_other_numbers_of_tokens(name: str) -> None:
    _, processor = TINY[name].build(0)
    text = rendered(TINY[name], processor, 1)
    lengths = {
        len(processor(text=[text], images=[[tiny_models.picture(0, size)]])["input_ids"][0])
        for size in [(40, 32), (64, 20)]
    }
    assert len(lengths) == 2


@pytest.mark.parametrize("name", ["gemma3", "paligemma"])
def test_a_tied_head_is_the_embedding(name: str) -> None:
    model, _ = TINY[name].build(0)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_the_image_token_of_mllama_has_no_row_in_its_head() -> None:
    model, processor = TINY["mllama"].build(0)
    assert processor.image_token_id == model.get_output_embeddings().out_features
