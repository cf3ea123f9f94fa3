"""Models of the benchmark: randomly initialised, in the shapes people fine-tune, with real processor classes.

Speed and memory follow from shapes, not from what the weights know, so no download is needed. The small shapes have
about 64 million parameters and are trained on a CPU; `gpu_shapes.py` has those of 7 billion.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from vlm_lit.data.checkpoint.processors_without_torchvision import NoVideoProcessor, processor_class
from vlm_lit.workbench.questions import PLAIN, ask
from vlm_lit.workbench.world import scene

VOCABULARY: Final = 32_000
PATCH: Final = 14
SIDES: Final = {64: 112, 256: 224, 576: 336}
"""Image tokens of the LLaVA shape, and the side of the square that makes them."""

# Both templates close an answer inside the generation tags, so that TRL's mask and ours are the same tokens.
LLAVA_TEMPLATE: Final = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'].upper() + ':' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ ' ' + part['text'] }}{% endfor %}"
    "{{ eos_token }}{% endgeneration %}{% else %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ ' <image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %} "
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
SMOLVLM_TEMPLATE: Final = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'].capitalize() + ':' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ ' ' + part['text'] }}{% endfor %}"
    "<end_of_utterance>{% endgeneration %}\n{% else %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %}"
    "<end_of_utterance>\n{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

SHORT: Final = "\nAnswer the question using a single word or phrase."
COMMON: Final = "User Assistant user system Describe the picture. There is a an that is on off. Asked one would say"
_TILE: Final = 512
_PLACES: Final = [f"<row_{row}_col_{column}>" for row in (1, 2, 3, 4) for column in (1, 2, 3, 4)]
_SMOLVLM_MARKS: Final = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "end_of_utterance_token": "<end_of_utterance>",
    "global_image_token": "<global-img>",
}


def tokenizer(*, eos: str, control: list[str], named: dict[str, str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learned from the workbench's questions; the models have 32,000 rows for it.

    It writes ordinary words as one token each, as tokenizers of that size do.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys(["<s>", eos, "<pad>", *control, *named.values()]))
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    asked = (qa for i in range(300) for qa in ask(scene(0, i), Random(i), 6, PLAIN))
    texts = (f"USER: {qa.question}{SHORT} ASSISTANT: {qa.answer} assistant {COMMON}" for qa in asked)
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token=eos, pad_token="<pad>", extra_special_tokens=named
    )


def _text(words: PreTrainedTokenizerFast, **sizes: int) -> LlamaConfig:
    """The language model of the small shapes: 25 million parameters, and 33 million in embedding and head."""
    return LlamaConfig(
        **{
            "hidden_size": 512,
            "intermediate_size": 1376,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "vocab_size": VOCABULARY,
            **sizes,
        },
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=False,
    )


def llava_processor(image_tokens: int, words: PreTrainedTokenizerFast | None = None) -> LlavaProcessor:
    """LLaVA-1.5's processor, its pictures cut to the square that gives `image_tokens` (64, 256 or 576)."""
    side = SIDES[image_tokens]
    pictures = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=words or tokenizer(eos="</s>", control=[], named={"image_token": "<image>"}),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )


def llava_config(image_tokens: int, words: PreTrainedTokenizerFast) -> LlavaConfig:
    """LLaVA-1.5's shape at 64 million parameters: tower 6, language model 25, embedding and head 33."""
    vision = CLIPVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=4,
        image_size=SIDES[image_tokens],
        patch_size=PATCH,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=_text(words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=image_tokens,
        vision_feature_layer=-2,
    )


def smolvlm_processor() -> ProcessorMixin:
    """SmolVLM's processor with its tiles of 512 pixels and 64 tokens, fewer: up to 4, and the picture seen whole."""
    words = tokenizer(eos="<end_of_utterance>", control=_PLACES, named=_SMOLVLM_MARKS)
    video = {"video_processor_type": "SmolVLMVideoProcessor", "size": {"longest_edge": _TILE}, "fps": 1}
    return processor_class("SmolVLMProcessor")(
        image_processor=SmolVLMImageProcessorPil(
            size={"longest_edge": 2 * _TILE}, max_image_size={"longest_edge": _TILE}, do_image_splitting=True
        ),
        tokenizer=words,
        video_processor=NoVideoProcessor({**video, "num_frames": 4}),
        image_seq_len=64,
        chat_template=SMOLVLM_TEMPLATE,
    )


def smolvlm_config(words: PreTrainedTokenizerFast) -> SmolVLMConfig:
    """SmolVLM-256M's proportions: a tower of two thirds of the language model, 64 image tokens for 1024 patches."""
    return SmolVLMConfig(
        vision_config={
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 10,
            "num_attention_heads": 6,
            "image_size": _TILE,
            "patch_size": 16,
        },
        text_config=_text(words).to_dict(),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.pad_token_id,
        scale_factor=4,
        tie_word_embeddings=False,
    )


def save(folder: Path, shape: str, image_tokens: int = 256) -> int:
    """Write the checkpoint of `shape` (llava or smolvlm) as the hub would hold it; returns its parameters."""
    torch.manual_seed(0)
    processor = llava_processor(image_tokens) if shape == "llava" else smolvlm_processor()
    words = processor.tokenizer
    model: nn.Module = (
        LlavaForConditionalGeneration(llava_config(image_tokens, words))
        if shape == "llava"
        else SmolVLMForConditionalGeneration(smolvlm_config(words))
    )
    model.save_pretrained(folder)  # type: ignore[operator]
    processor.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())
