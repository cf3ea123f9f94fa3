"""Logits of hidden states: the model's head, with the soft cap that some families put on it."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel


def head_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The logits [..., V] of hidden states [..., D], as the model's own forward pass makes them.

    PaliGemma squashes its logits into (-cap, cap) where its text model's config names a cap, as that of PaliGemma 2
    does; left out, the loss would be that of another model. Of other models it would be that of another one with it:
    Gemma 3's text model has such a cap too, and the model with pictures does not read it.
    """
    logits: Tensor = model.get_output_embeddings()(hidden)
    paligemma = model.config.model_type == "paligemma"
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None) if paligemma else None
    return logits if cap is None else torch.tanh(logits / cap) * cap
