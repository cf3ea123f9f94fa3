"""Initial weights of the tiny families: large enough that every part shows in the logits."""

from __future__ import annotations

from typing import TypeVar

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

GATE = 0.5

Kind = TypeVar("Kind", bound=PreTrainedModel)


def drawn(kind: type[Kind], config: PreTrainedConfig, seed: int) -> Kind:
    """A model of `kind` in evaluation mode: matrices with a spread of 0.08, gates and scales half open.

    At the usual spread of 0.02 differences drown in rounding; what starts at zero (Mllama's gates, Gemma 3's
    projection, InternVL's positions) would hide the picture from the logits altogether.
    """
    torch.manual_seed(seed)
    model: Kind = kind(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.08)
            elif "gate" in name.rsplit(".", 1)[-1] or "lambda" in name:
                parameter.fill_(GATE)
    model.eval()
    return model


def text_sizes(vocab: int) -> dict[str, int]:
    """The language model's sizes: every linear layer's output a multiple of 32, as 4-bit layers need on a CPU."""
    return {
        "vocab_size": vocab,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
    }


def control_ids(tokens: PreTrainedTokenizerFast) -> dict[str, int | None]:
    """The usual control tokens' ids, by the names a configuration gives them."""
    return {name: getattr(tokens, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
