"""PaliGemma and Gemma 3, tiny: a SigLIP tower, tied heads, and image blocks that attend both ways."""

from __future__ import annotations

from typing import Final

from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.support.tiny_families.weights import control_ids, drawn, text_sizes
from tests.support.tiny_families.words import rows, tokenizer

SIDE: Final = {"height": 28, "width": 28}
HEADS: Final = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
SIGLIP: Final = {
    "model_type": "siglip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "vision_use_head": False,
}

# What the Gemma 3 instruction-tuned checkpoints' template writes: a system message opens the first user turn, and
# every text is trimmed.
GEMMA3_TEMPLATE: Final = (
    "{{ bos_token }}{%- set opening = '' -%}"
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- if messages[0]['content'] is string -%}{%- set opening = messages[0]['content'] + '\n\n' -%}"
    "{%- else -%}{%- set opening = messages[0]['content'][0]['text'] + '\n\n' -%}{%- endif -%}"
    "{%- set messages = messages[1:] -%}{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{%- endif -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
    "{{ '<start_of_turn>' + role + '\n' + (opening if loop.first else '') }}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}{%- else -%}"
    "{%- for item in message['content'] -%}{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}"
    "{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)


def paligemma(seed: int = 0) -> tuple[PaliGemmaForConditionalGeneration, PaliGemmaProcessor]:
    """PaliGemma's shape: no chat template; the processor adds its location tokens and writes <bos> itself."""
    images = SiglipImageProcessorPil(size=SIDE)
    images.image_seq_length = 4
    tokens = tokenizer(bos="<bos>", eos="<eos>", pad="<pad>", named={"image_token": "<image>"})
    processor = PaliGemmaProcessor(image_processor=images, tokenizer=tokens)
    vocabulary = rows(tokens)
    config = PaliGemmaConfig(
        vision_config={**SIGLIP, "patch_size": 14},
        text_config={"model_type": "gemma", **text_sizes(vocabulary), **control_ids(tokens), **HEADS},
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        vocab_size=vocabulary,
        projection_dim=64,
        hidden_size=64,
    )
    return drawn(PaliGemmaForConditionalGeneration, config, seed), processor


def gemma3(seed: int = 0) -> tuple[Gemma3ForConditionalGeneration, Gemma3Processor]:
    """Gemma 3's shape: a layer that sees the last 32 tokens, then one that sees all."""
    tokens = tokenizer(
        bos="<bos>",
        bos_in_front=True,
        eos="<eos>",
        pad="<pad>",
        control=["<start_of_turn>", "<end_of_turn>"],
        named={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessorPil(size=SIDE),
        tokenizer=tokens,
        image_seq_length=4,
        chat_template=GEMMA3_TEMPLATE,
    )
    config = Gemma3Config(
        vision_config={**SIGLIP, "patch_size": 7},
        text_config={
            **text_sizes(rows(tokens)),
            **control_ids(tokens),
            **HEADS,
            "query_pre_attn_scalar": 32,
            "sliding_window": 32,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        mm_tokens_per_image=4,
        image_token_index=tokens.image_token_id,
        boi_token_index=tokens.boi_token_id,
        eoi_token_index=tokens.eoi_token_id,
    )
    return drawn(Gemma3ForConditionalGeneration, config, seed), processor
