"""SmolVLM and Idefics3, tiny: a picture is cut into 28 x 28 tiles of 4 image tokens, and seen whole once more."""

from __future__ import annotations

from typing import Any, Final

from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from tests.support.tiny_families.weights import control_ids, drawn, text_sizes
from tests.support.tiny_families.words import rows, tokenizer
from vlm_lit.data.checkpoint.processors_without_torchvision import NoVideoProcessor, processor_class

TILES: Final = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}, "do_image_splitting": True}
PLACES: Final = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
IMAGE_SEQ_LEN: Final = 4

# The text both families' checkpoints write, after the token that opens a conversation.
_TURNS: Final = (
    "{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
SMOLVLM_TEMPLATE: Final = "<|im_start|>" + _TURNS
IDEFICS3_TEMPLATE: Final = "<|begin_of_text|>" + _TURNS

MARKS: Final = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "end_of_utterance_token": "<end_of_utterance>",
    "global_image_token": "<global-img>",
}


def _config(kind: type[Any], tokens: PreTrainedTokenizerFast) -> Any:
    ids = control_ids(tokens)
    return kind(
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
        },
        text_config={"model_type": "llama", **text_sizes(rows(tokens)), **ids},
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        pad_token_id=ids["pad_token_id"],
        scale_factor=2,
        tie_word_embeddings=False,
    )


def smolvlm(seed: int = 0) -> tuple[SmolVLMForConditionalGeneration, ProcessorMixin]:
    """SmolVLM's shape; its end of sequence is the end of an utterance."""
    tokens = tokenizer(bos="<|im_start|>", eos="<end_of_utterance>", pad="<|im_end|>", control=PLACES, named=MARKS)
    video = {"video_processor_type": "SmolVLMVideoProcessor", "size": {"longest_edge": 28}, "fps": 1, "num_frames": 4}
    processor = processor_class("SmolVLMProcessor")(
        image_processor=SmolVLMImageProcessorPil(**TILES),
        tokenizer=tokens,
        video_processor=NoVideoProcessor(video),
        image_seq_len=IMAGE_SEQ_LEN,
        chat_template=SMOLVLM_TEMPLATE,
    )
    return drawn(SmolVLMForConditionalGeneration, _config(SmolVLMConfig, tokens), seed), processor


def idefics3(seed: int = 0) -> tuple[Idefics3ForConditionalGeneration, Idefics3Processor]:
    """Idefics3's shape, with Llama 3's tokenizer, which puts <|begin_of_text|> in front."""
    tokens = tokenizer(
        bos="<|begin_of_text|>",
        bos_in_front=True,
        eos="<|end_of_text|>",
        pad="<|finetune_right_pad_id|>",
        control=[*MARKS.values(), *PLACES],
    )
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(**TILES),
        tokenizer=tokens,
        image_seq_len=IMAGE_SEQ_LEN,
        chat_template=IDEFICS3_TEMPLATE,
    )
    return drawn(Idefics3ForConditionalGeneration, _config(Idefics3Config, tokens), seed), processor
