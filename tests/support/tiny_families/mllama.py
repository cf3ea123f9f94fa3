"""Mllama (Llama 3.2 Vision), tiny: pictures enter through two of four decoder layers, by cross attention."""

from __future__ import annotations

from typing import Final

from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaProcessor, PreTrainedTokenizerFast
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

from tests.support.tiny_families.weights import control_ids, drawn, text_sizes
from tests.support.tiny_families.words import rows, tokenizer

# The text of the Instruct checkpoints' template without tools. The system turn, which holds the day of the rendering,
# is there where the conversation has no picture; a system message has to be a string, and no picture may come with it.
TEMPLATE: Final = (
    "{{- bos_token }}"
    "{%- if date_string is not defined %}"
    "{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "{%- set told = '' %}{%- set turns = messages %}"
    "{%- if messages[0]['role'] == 'system' %}"
    "{%- set told = messages[0]['content'] | trim %}{%- set turns = messages[1:] %}{%- endif %}"
    "{%- set seen = namespace(images=false) %}"
    "{%- for message in turns %}{%- for content in message['content'] %}"
    "{%- if content['type'] == 'image' %}{%- set seen.images = true %}{%- endif %}{%- endfor %}{%- endfor %}"
    "{%- if seen.images and told %}"
    "{{- raise_exception('Prompting with images is incompatible with system messages.') }}{%- endif %}"
    "{%- if not seen.images %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n' }}"
    "{{- 'Today Date: ' + date_string + '\n\n' + told + '<|eot_id|>' }}{%- endif %}"
    "{%- for message in turns %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}"
    "{%- for content in message['content'] %}{%- if content['type'] == 'image' %}{{- '<|image|>' }}"
    "{%- elif content['type'] == 'text' %}{{- content['text'] }}{%- endif %}{%- endfor %}{%- endif %}"
    "{{- '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)


def _tokens() -> PreTrainedTokenizerFast:
    """Llama 3's control tokens; <|image|> is the first id behind the vocabulary, so that no head row produces it."""
    tokens = tokenizer(
        bos="<|begin_of_text|>",
        bos_in_front=True,
        eos="<|eot_id|>",
        pad="<|finetune_right_pad_id|>",
        control=["<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>", "<|python_tag|>"],
    )
    spare = rows(tokens) - len(tokens)
    tokens.add_tokens([f"<|reserved_special_token_{i}|>" for i in range(spare)], special_tokens=True)
    tokens.add_tokens(["<|image|>"], special_tokens=True)
    return tokens


def mllama(seed: int = 0) -> tuple[MllamaForConditionalGeneration, MllamaProcessor]:
    """Llama 3.2 Vision's shape, with up to four 28 x 28 tiles a picture."""
    tokens = _tokens()
    image_id = tokens.convert_tokens_to_ids("<|image|>")
    config = MllamaConfig(
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 128,
            "image_size": 28,
            "patch_size": 14,
        },
        text_config={
            **text_sizes(image_id),
            **control_ids(tokens),
            "num_hidden_layers": 4,
            "cross_attention_layers": [1, 3],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        image_token_index=image_id,
    )
    side = {"height": 28, "width": 28}
    processor = MllamaProcessor(
        image_processor=MllamaImageProcessorPil(size=side, max_image_tiles=4), tokenizer=tokens, chat_template=TEMPLATE
    )
    return drawn(MllamaForConditionalGeneration, config, seed), processor
