"""LLaVA-1.5 after its first training stage as a checkpoint, put together from its three published parts.

    python scripts/llava15/llava15_stage1.py --language_model lmsys/vicuna-7b-v1.5 --projector mm_projector.bin \\
        --vision_tower openai/clip-vit-large-patch14-336 --output llava15_7b_stage1

`mm_projector.bin` is that of liuhaotian/llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5. The hub's llava-hf checkpoints
have been through the second stage already.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionModel,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from vlm_lit.workbench.base_model import CHAT_TEMPLATE

_LAYERS: Final = {"0": "linear_1", "2": "linear_2"}
_MULTIPLE: Final = 64
"""The vocabulary grows to a multiple of this: from Vicuna's 32,000 by two words to 32,064, as llava-hf's has."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language_model", required=True, help="hub id or folder of Vicuna")
    parser.add_argument("--vision_tower", required=True, help="hub id or folder of CLIP")
    parser.add_argument("--projector", type=Path, required=True, help="mm_projector.bin of the first stage")
    parser.add_argument("--output", type=Path, required=True, help="new folder for the checkpoint")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise SystemExit(f"{arguments.output} exists. Name another --output, or remove it first.")
    model, processor = put_together(arguments.language_model, arguments.vision_tower, arguments.projector)
    model.save_pretrained(arguments.output)
    processor.save_pretrained(arguments.output)
    print(f"Written to {arguments.output}")


def put_together(
    language_model: str, vision_tower: str, projector: Path
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The model, in the language model's dtype, with its processor."""
    tokenizer = AutoTokenizer.from_pretrained(
        language_model, padding_side="left", extra_special_tokens={"image_token": "<image>"}
    )
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    words = AutoModelForCausalLM.from_pretrained(language_model, dtype="auto")
    torch.manual_seed(0)  # the new words' embeddings are drawn from the distribution of the others
    words.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=_MULTIPLE)
    tower = CLIPVisionModel.from_pretrained(vision_tower)
    model = _joined(words, tower, projector_weights(projector), tokenizer)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil.from_pretrained(vision_tower),
        tokenizer=tokenizer,
        patch_size=tower.config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    return model, processor


def projector_weights(path: Path) -> dict[str, Tensor]:
    """The two layers' weights, from LLaVA's names (`model.mm_projector.0.weight`) to those of transformers."""
    stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    named = {tuple(name.rsplit(".", 2)[1:]): tensor for name, tensor in stored.items()}
    asked = {(place, kind) for place in _LAYERS for kind in ("weight", "bias")}
    if named.keys() != asked:
        raise SystemExit(f"{path} holds {', '.join(sorted(stored))}. LLaVA-1.5's projector has two layers, 0 and 2.")
    return {f"{_LAYERS[place]}.{kind}": tensor for (place, kind), tensor in named.items()}


def _joined(
    words: PreTrainedModel, tower: CLIPVisionModel, projector: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase
) -> LlavaForConditionalGeneration:
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=words.config,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(tower.config.image_size // tower.config.patch_size) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
    )
    config.text_config.pad_token_id = tokenizer.pad_token_id
    model = LlavaForConditionalGeneration(config).to(words.dtype)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.multi_modal_projector.load_state_dict(projector)
    model.model.language_model.load_state_dict(words.model.state_dict())
    model.lm_head.load_state_dict(words.lm_head.state_dict())
    # Vicuna's own have a temperature without sampling, which transformers refuses to save.
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


if __name__ == "__main__":
    main()
