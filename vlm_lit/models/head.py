"""Logits of hidden states: the model's head, with the soft cap that some families put on it."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel


def head_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The logits [..., V] of hidden states [..., D], as the model's own forward pass makes them.

    Gemma 2's text model, which PaliGemma 2 is made of, squashes its logits into (-cap, cap); left out, the loss would
    be that of another model.
    """
    logits: Tensor = model.get_output_embeddings()(hidden)
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap
