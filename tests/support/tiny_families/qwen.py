"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL, tiny: pictures of any size, one image token for 8 x 8 pixels."""

from __future__ import annotations

from typing import Any, Final

from transformers import (
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.support.tiny_families.weights import control_ids, drawn, text_sizes
from tests.support.tiny_families.words import rows, tokenizer
from vlm_lit.data.checkpoint.processors_without_torchvision import NoVideoProcessor, processor_class

PATCH: Final = {"patch_size": 4, "temporal_patch_size": 2}
PIXELS: Final = {"shortest_edge": 8 * 8, "longest_edge": 40 * 40}
MROPE: Final = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}

_IMAGE: Final = "<|vision_start|><|image_pad|><|vision_end|>"
_VIDEO: Final = "<|vision_start|><|video_pad|><|vision_end|>"

# The text of the Qwen2-VL and Qwen2.5-VL checkpoints' template: ChatML, a default system turn, optional numbers.
QWEN2_TEMPLATE: Final = (
    "{% set images = namespace(value=0) %}{% set videos = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set images.value = images.value + 1 %}{% if add_vision_id %}Picture {{ images.value }}: {% endif %}" + _IMAGE +
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set videos.value = videos.value + 1 %}{% if add_vision_id %}Video {{ videos.value }}: {% endif %}" + _VIDEO +
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)  # fmt: skip

# What the Qwen3-VL Instruct checkpoints' template writes without tools: ChatML with no default system turn.
QWEN3_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for content in message.content %}"
    "{% if content.type == 'image' or 'image' in content or 'image_url' in content %}" + _IMAGE +
    "{% elif content.type == 'video' or 'video' in content %}" + _VIDEO +
    "{% elif 'text' in content %}{{ content.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)  # fmt: skip


def _processor(name: str, template: str, video: str) -> ProcessorMixin:
    tokens = tokenizer(
        eos="<|im_end|>",
        pad="<|endoftext|>",
        control=["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"],
    )
    return processor_class(name)(
        image_processor=Qwen2VLImageProcessorPil(size=PIXELS, merge_size=2, **PATCH),
        tokenizer=tokens,
        video_processor=NoVideoProcessor({"video_processor_type": video, "size": PIXELS, "merge_size": 2, **PATCH}),
        chat_template=template,
    )


def _ids(tokens: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: tokens.convert_tokens_to_ids(token) for name, token in names.items()}


def _config(kind: type[Any], tokens: PreTrainedTokenizerFast, vision: dict[str, Any], **text: Any) -> Any:
    sizes = {**text_sizes(rows(tokens)), **control_ids(tokens), "rope_parameters": dict(MROPE), **text}
    common = {"spatial_merge_size": 2, "depth": 2, "num_heads": 2, **PATCH}
    return kind(text_config=sizes, vision_config={**common, **vision}, **_ids(tokens))


def qwen2_vl(seed: int = 0) -> tuple[Qwen2VLForConditionalGeneration, ProcessorMixin]:
    """Qwen2-VL's shape, its head untied as in the 7B checkpoint."""
    processor = _processor("Qwen2VLProcessor", QWEN2_TEMPLATE, "Qwen2VLVideoProcessor")
    config = _config(Qwen2VLConfig, processor.tokenizer, {"embed_dim": 64, "hidden_size": 64, "mlp_ratio": 2})
    return drawn(Qwen2VLForConditionalGeneration, config, seed), processor


def qwen2_5_vl(seed: int = 0) -> tuple[Qwen2_5_VLForConditionalGeneration, ProcessorMixin]:
    """Qwen2.5-VL's shape: a block that attends within windows of 16 x 16 pixels, then one over the whole picture."""
    processor = _processor("Qwen2_5_VLProcessor", QWEN2_TEMPLATE, "Qwen2VLVideoProcessor")
    vision = {
        "hidden_size": 64,
        "out_hidden_size": 64,
        "intermediate_size": 128,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    return drawn(Qwen2_5_VLForConditionalGeneration, _config(Qwen2_5_VLConfig, processor.tokenizer, vision), seed), (
        processor
    )


def qwen3_vl(seed: int = 0) -> tuple[Qwen3VLForConditionalGeneration, ProcessorMixin]:
    """Qwen3-VL's shape: features of two vision blocks also enter the first decoder layers."""
    processor = _processor("Qwen3VLProcessor", QWEN3_TEMPLATE, "Qwen3VLVideoProcessor")
    vision = {
        "depth": 3,
        "hidden_size": 64,
        "out_hidden_size": 64,
        "intermediate_size": 128,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }
    # A third decoder layer: what enters the last one at an image's places never reaches a word.
    text = {
        "num_hidden_layers": 3,
        "head_dim": 16,
        "rope_parameters": {**MROPE, "mrope_section": [4, 2, 2], "mrope_interleaved": True},
    }
    config = _config(Qwen3VLConfig, processor.tokenizer, vision, **text)
    return drawn(Qwen3VLForConditionalGeneration, config, seed), processor
