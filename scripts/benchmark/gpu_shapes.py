"""Checkpoints in 7-billion-parameter shapes for machines without a network: drawn at random, by shards.

Neither the host's memory nor the GPU's ever holds more than one shard of the 16-bit weights. Each shape has a tiny
sibling of the same family, with which the whole check runs on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import shapes
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vlm_lit.data.checkpoint.processors_without_torchvision import NoVideoProcessor, processor_class

SHARD: Final = 2 * 1024**3
"""Bytes of a shard."""

QWEN_TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %}"
    "<|im_end|>{% endgeneration %}\n{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """A family's model class with what makes its processor and, from the tokenizer, its config."""

    model: Callable[[PretrainedConfig], nn.Module]
    processor: Callable[[], ProcessorMixin]
    config: Callable[[PreTrainedTokenizerFast], PretrainedConfig]


def _llava_7b(words: PreTrainedTokenizerFast) -> LlavaConfig:
    """The sizes of llava-hf/llava-1.5-7b-hf."""
    return LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
            "projection_dim": 768,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "vocab_size": 32064,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            **_ids(words),
        },
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=576,
        vision_feature_layer=-2,
        tie_word_embeddings=False,
    )


def _llava_tiny(words: PreTrainedTokenizerFast) -> LlavaConfig:
    config = shapes.llava_config(64, words)
    config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = 2
    return config


def _qwen(words: PreTrainedTokenizerFast, vision: dict[str, Any], text: dict[str, Any]) -> Qwen2_5_VLConfig:
    marks = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    rope = {"rope_type": "default", "rope_theta": 1e6}
    return Qwen2_5_VLConfig(
        vision_config={"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision},
        text_config={**text, **_ids(words), "rope_parameters": {**rope, "mrope_section": text["mrope_section"]}},
        tie_word_embeddings=False,
        **{name: words.convert_tokens_to_ids(token) for name, token in marks.items()},
    )


def _qwen_7b(words: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """The sizes of Qwen/Qwen2.5-VL-7B-Instruct."""
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    }
    text = {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_position_embeddings": 128000,
        "mrope_section": [16, 24, 24],
    }
    return _qwen(words, vision, text)


def _qwen_tiny(words: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "out_hidden_size": 64,
        "window_size": 112,
        "fullatt_block_indexes": [1],
    }
    text = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 8192,
        "mrope_section": [4, 6, 6],
    }
    return _qwen(words, vision, text)


def _ids(words: PreTrainedTokenizerFast) -> dict[str, int]:
    return {name: getattr(words, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def _qwen_processor() -> ProcessorMixin:
    control = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    pixels = {"shortest_edge": 56 * 56, "longest_edge": 1280 * 28 * 28}
    sizes = {"size": pixels, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    return processor_class("Qwen2_5_VLProcessor")(
        image_processor=Qwen2VLImageProcessorPil(**sizes),
        tokenizer=shapes.tokenizer(eos="<|im_end|>", control=control, named={}),
        video_processor=NoVideoProcessor({"video_processor_type": "Qwen2VLVideoProcessor", **sizes}),
        chat_template=QWEN_TEMPLATE,
    )


SHAPES: Final = {
    "llava15_7b": Shape(LlavaForConditionalGeneration, lambda: shapes.llava_processor(576), _llava_7b),
    "qwen25vl_7b": Shape(Qwen2_5_VLForConditionalGeneration, _qwen_processor, _qwen_7b),
    "llava_tiny": Shape(LlavaForConditionalGeneration, lambda: shapes.llava_processor(64), _llava_tiny),
    "qwen25vl_tiny": Shape(Qwen2_5_VLForConditionalGeneration, _qwen_processor, _qwen_tiny),
}


def save(folder: Path, name: str, device: str) -> int:
    """Write a random bfloat16 checkpoint of a shape into `folder`, drawn on `device`; returns its parameters."""
    shape = SHAPES[name]
    processor = shape.processor()
    config = shape.config(processor.tokenizer)
    with torch.device("meta"):
        model = shape.model(config)
    folder.mkdir(parents=True)
    config.architectures, config.dtype = [type(model).__name__], torch.bfloat16
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    places: dict[str, str] = {}
    torch.manual_seed(0)
    for number, names in enumerate(_shards(model)):
        file = f"model-{number:05d}.safetensors"
        state = model.state_dict()
        save_file({n: _drawn(n, state[n], device) for n in names}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names, file)
    size = sum(2 * parameter.numel() for parameter in model.parameters())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return size // 2


def _shards(model: nn.Module) -> Iterator[list[str]]:
    names, size = [], 0
    for name, value in model.state_dict().items():
        names.append(name)
        size += 2 * value.numel()
        if size >= SHARD:
            yield names
            names, size = [], 0
    if names:
        yield names


def _drawn(name: str, like: Tensor, device: str) -> Tensor:
    """Matrices with the usual spread of 0.02; scales one and shifts zero."""
    if not like.is_floating_point():
        return torch.arange(like.numel()).reshape(like.shape)  # position ids
    if like.dim() < 2:
        return torch.full(like.shape, float(name.endswith("weight")), dtype=torch.bfloat16)
    return torch.empty(like.shape, dtype=torch.bfloat16, device=device).normal_(0.0, 0.02).cpu()
