"""The workbench's base model: a LLaVA of under four million parameters, shipped inside the package.

Its parts are the field's: a CLIP vision tower, a two-layer projector, a Llama language model, with a real
LlavaProcessor. `scripts/workbench/make_workbench_base.py` trains it; nothing here does. Sizes respect what 4-bit
loading asks for: every linear layer of the language model has sides that are multiples of 64.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from vlm_lit.workbench.questions import PLAIN, ask
from vlm_lit.workbench.world import scene

IMAGE_SIDE: Final = 112
PATCH: Final = 14
IMAGE_TOKENS: Final = (IMAGE_SIDE // PATCH) ** 2
VOCABULARY: Final = 576
SPECIAL: Final = ("<s>", "</s>", "<pad>", "<image>")
"""Begin and end of sequence, padding, and the image's place; their ids are 0, 1, 2, 3."""

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\\n' }}{% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""The chat template of llava-hf/llava-1.5-7b-hf. It writes no end of turn."""


def base_path() -> Path:
    """The shipped base model's folder, for reading."""
    return Path(str(files("vlm_lit.workbench") / "base"))


def copy_base(directory: Path) -> Path:
    """Copy the shipped base model into `directory` (made where missing) and return it.

    `AutoProcessor.from_pretrained` and `AutoModelForImageTextToText.from_pretrained` load the copy.
    """
    shutil.copytree(base_path(), directory, dirs_exist_ok=True)
    return directory


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learned from the world's own sentences.

    Digits stand alone and upper-case codes fall into small pieces, so that words the base never saw can be written.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_sentences(seed), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=2048,
    )


def _sentences(seed: int) -> Iterator[str]:
    """Dialogues as the template writes them, with filler words from which spare vocabulary is learned."""
    filler = "and the of to in it that for with this are from you not which will each other when was have has been"
    for index in range(2000):
        asked = ask(scene(seed, index), Random(f"sentences {seed}/{index}"), 6, PLAIN)
        yield from (f"USER: {qa.question} ASSISTANT: {qa.answer}" for qa in asked)
        yield from (qa.question for qa in asked)
        yield filler if index % 10 == 0 else "repeat:"


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """The processor: pictures become 112 x 112 pixels, which are 8 x 8 patches, which are 64 image tokens."""
    images = CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def build_config(vocabulary: int) -> LlavaConfig:
    """The architecture; `vocabulary` is the number of tokens."""
    vision = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        image_size=IMAGE_SIDE,
        patch_size=PATCH,
        projection_dim=192,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=3,
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
    )


def build_model(vocabulary: int, seed: int) -> LlavaForConditionalGeneration:
    """The untrained model in float32, its weights drawn from `seed`."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(build_config(vocabulary))
    model.generation_config.bos_token_id, model.generation_config.eos_token_id = 0, 1
    model.generation_config.pad_token_id = 2
    return model
