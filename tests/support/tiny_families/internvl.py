"""InternVL 3, tiny: a picture is cut into up to four 28 x 28 tiles of 4 image tokens, and seen whole once more."""

from __future__ import annotations

from typing import Final

from transformers import InternVLConfig, InternVLForConditionalGeneration, ProcessorMixin
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from tests.support.tiny_families.weights import control_ids, drawn, text_sizes
from tests.support.tiny_families.words import rows, tokenizer
from vlm_lit.data.checkpoint.processors_without_torchvision import NoVideoProcessor, processor_class

# The text of the OpenGVLab/InternVL3-*-hf checkpoints' template.
TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKS: Final = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def internvl(seed: int = 0) -> tuple[InternVLForConditionalGeneration, ProcessorMixin]:
    """InternVL 3's shape, with Qwen 2.5 as its language model."""
    tokens = tokenizer(eos="<|im_end|>", pad="<|endoftext|>", control=["<|im_start|>"], named=MARKS)
    side = {"height": 28, "width": 28}
    processor = processor_class("InternVLProcessor")(
        image_processor=GotOcr2ImageProcessorPil(size=side, crop_to_patches=True, min_patches=1, max_patches=4),
        tokenizer=tokens,
        video_processor=NoVideoProcessor({"video_processor_type": "InternVLVideoProcessor", "size": side}),
        image_seq_length=4,
        chat_template=TEMPLATE,
    )
    config = InternVLConfig(
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [28, 28],
            "patch_size": [7, 7],
        },
        text_config={"model_type": "qwen2", **text_sizes(rows(tokens)), **control_ids(tokens)},
        image_token_id=tokens.context_image_token_id,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    return drawn(InternVLForConditionalGeneration, config, seed), processor
