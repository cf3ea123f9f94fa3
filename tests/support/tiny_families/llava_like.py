"""LLaVA-1.5, Pixtral and LLaVA-NeXT, tiny. Pixtral is LLaVA's class with a vision tower that takes any size."""

from __future__ import annotations

from typing import Final

from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    ProcessorMixin,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

from tests.support import tiny_models
from tests.support.tiny_families.weights import control_ids, drawn, text_sizes
from tests.support.tiny_families.words import rows, tokenizer
from vlm_lit.data.checkpoint.processors_without_torchvision import processor_class

# The text of the published Pixtral and Mistral 3 templates: a system message, which has to be a string, opens the last
# message if that is a user's, and is left out otherwise.
PIXTRAL_TEMPLATE: Final = (
    "{%- set turns = messages %}{%- if messages[0]['role'] == 'system' %}"
    "{%- set told = messages[0]['content'] %}{%- set turns = messages[1:] %}{%- endif %}"
    "{{- bos_token }}{%- for message in turns %}{%- set asks = message['role'] == 'user' %}"
    "{%- if asks != (loop.index0 % 2 == 0) %}{{- raise_exception('After the optional system message, conversation "
    "roles must alternate user/assistant/user/assistant/...') }}{%- endif %}"
    "{%- if asks and loop.last and told is defined %}{{- '[INST]' + told + '\n\n' }}"
    "{%- elif asks %}{{- '[INST]' }}{%- endif %}"
    "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}"
    "{%- for chunk in message['content'] %}{%- if chunk['type'] == 'text' %}"
    "{{- chunk['content'] if 'content' in chunk else chunk['text'] }}"
    "{%- elif chunk['type'] == 'image' %}{{- '[IMG]' }}"
    "{%- else %}{{- raise_exception('Unrecognized content type!') }}{%- endif %}{%- endfor %}{%- endif %}"
    "{%- if asks %}{{- '[/INST]' }}{%- elif message['role'] == 'assistant' %}{{- eos_token }}"
    "{%- else %}{{- raise_exception('Only user and assistant roles are supported, with the exception of an initial "
    "optional system message!') }}{%- endif %}{%- endfor %}"
)

# The text of llava-hf/llava-v1.6-mistral-7b-hf's template: [INST] is ordinary text, and pictures come first.
LLAVA_NEXT_TEMPLATE: Final = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<<SYS>>\n' + message['content'][0]['text'] + '\n<</SYS>>\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}{% endfor %}"
    "{{ ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'][0]['text'] + '</s> ' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)

CLIP: Final = {
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def llava(seed: int = 0) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """LLaVA-1.5's shape: every picture is 4 tokens."""
    return tiny_models.llava(seed)


def pixtral(seed: int = 0) -> tuple[LlavaForConditionalGeneration, ProcessorMixin]:
    """Pixtral's shape: patches of 8 x 8 pixels, and a token at the end of each row of them."""
    tokens = tokenizer(
        bos="<s>",
        bos_in_front=True,
        eos="</s>",
        pad="<pad>",
        control=["[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"],
    )
    processor = processor_class("PixtralProcessor")(
        image_processor=PixtralImageProcessorPil(
            size={"longest_edge": 32}, patch_size={"height": 8, "width": 8}, default_to_square=True
        ),
        tokenizer=tokens,
        patch_size=8,
        chat_template=PIXTRAL_TEMPLATE,
    )
    vision = {
        "model_type": "pixtral",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    config = LlavaConfig(
        vision_config=vision,
        text_config={"model_type": "mistral", **text_sizes(rows(tokens)), **control_ids(tokens), "head_dim": 16},
        image_token_index=tokens.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return drawn(LlavaForConditionalGeneration, config, seed), processor


def llava_next(seed: int = 0) -> tuple[LlavaNextForConditionalGeneration, LlavaNextProcessor]:
    """LLaVA-NeXT's shape: a picture is seen whole and in the 28 x 28 tiles of the grid that fits it best."""
    grid = [[28, 56], [56, 28], [56, 56]]
    side = {"height": 28, "width": 28}
    tokens = tokenizer(bos="<s>", bos_in_front=True, eos="</s>", pad="<pad>", named={"image_token": "<image>"})
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            size={"shortest_edge": 28}, crop_size=side, image_grid_pinpoints=grid
        ),
        tokenizer=tokens,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_NEXT_TEMPLATE,
    )
    config = LlavaNextConfig(
        vision_config=CLIP,
        text_config={"model_type": "mistral", **text_sizes(rows(tokens)), **control_ids(tokens)},
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grid,
        image_seq_length=4,
    )
    return drawn(LlavaNextForConditionalGeneration, config, seed), processor
