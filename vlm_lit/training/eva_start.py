"""EVA's start of low-rank updates: A spans what each layer's inputs vary in, over some training conversations.

Paischer et al. 2024 (arXiv 2410.07170), computed by PEFT: an incremental SVD of the inputs of each layer, until its
directions no longer turn. Every layer keeps the rank that was asked for. B is zero, so the start is the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import Any, Final

import torch
from peft import EvaConfig, PeftModel
from peft.tuners.lora.eva import get_eva_state_dict
from torch import Tensor

from vlm_lit.data.records.record_dataset import RecordDataset
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.sampler import derive_seed
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.errors import ConfigError, raised
from vlm_lit.models.frozen_start import TRAINED, lora_layers
from vlm_lit.schema import Conversation, Preference, TokenBatch

CONVERSATIONS: Final = 64
"""Conversations that the inputs are of, drawn by the run's seed: the same on every rank."""
_ROWS: Final = 8
_MOST_PASSES: Final = 50
"""Passes over these conversations, after which directions that still turn are a fault of the data."""


def start_at_inputs(
    model: PeftModel, data: TokenRows[Any], forward: Callable[[TokenBatch], object], *, seed: int, device: torch.device
) -> None:
    """Set A of every low-rank update.

    Args:
        model: the adapted model.
        data: the run's data, set up for `fit`.
        forward: runs the model on a micro-batch.
        seed: what the conversations are drawn by.
        device: where the model is.

    Raises:
        ConfigError: the data is a stream, a rank is larger than a layer or than a batch's tokens, or the directions
            do not settle.
    """
    batches = [_Moved(batch, device) for batch in _batches(data, seed)]
    config = copy(model.peft_config[TRAINED])
    config.eva_config = EvaConfig(rho=1.0)
    ranks = {name: layer.r[TRAINED] for name, layer in lora_layers(model)}
    passes = 0

    def run(_: object, moved: _Moved) -> None:
        nonlocal passes
        passes += 1
        if passes > _MOST_PASSES * len(batches):
            raise ConfigError(
                f"lora.start is eva, and the directions of some layer's inputs still turn after {_MOST_PASSES} passes "
                f"over {CONVERSATIONS} conversations. Lower lora.rank, or set lora.start to random."
            )
        forward(moved.batch)

    with _left_on(model):
        found = get_eva_state_dict(
            model,
            batches,
            peft_config=config,
            forward_fn=run,
            prepare_model_inputs_fn=lambda moved, _: moved.batch.inputs["attention_mask"].bool(),
            prepare_layer_inputs_fn=lambda inputs, mask, name: _seen(inputs, mask, name, ranks[name]),
            gather_distributed_inputs=False,  # every rank has the same conversations
            show_progress_bar=False,
        )
    for name, layer in lora_layers(model):
        layer.lora_A[TRAINED].weight.data.copy_(found[name])


@contextmanager
def _left_on(model: PeftModel) -> Iterator[None]:
    """Let PEFT leave the adapters on: with B at zero they add nothing, and originals of full parts may be dropped."""
    model.disable_adapter = nullcontext
    try:
        yield
    finally:
        del model.disable_adapter


class _Moved:
    """A micro-batch where the model is, in the form that PEFT moves by itself."""

    def __init__(self, batch: TokenBatch, device: torch.device) -> None:
        batch.inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
        batch.labels = batch.labels.to(device)
        self.batch = batch

    def to(self, _: object) -> _Moved:
        return self


def _batches(data: TokenRows[Any], seed: int) -> list[TokenBatch]:
    train = data.datasets["train"]
    if not isinstance(train, RecordDataset):
        raise ConfigError(
            "lora.start is eva, which draws training conversations, and a stream has none to draw from: set "
            "data.init_args.train.streaming to false, or lora.start to random."
        )
    generator = torch.Generator().manual_seed(derive_seed("eva", seed))
    drawn = torch.randperm(len(train), generator=generator)[:CONVERSATIONS].tolist()
    encoder, policy = data.fitting()
    conversations = [one for place in drawn for one in _said(train[place])]
    return list(raised(StepCollator(encoder, policy, _ROWS)(conversations)).micro_batches)


def _said(item: object) -> Sequence[Conversation]:
    if isinstance(item, Preference):
        return item.sides
    assert isinstance(item, Conversation)
    return (item,)


def _seen(inputs: Any, mask_BL: Tensor, name: str, rank: int) -> Tensor:  # noqa: ANN401 - a hook's inputs
    """A layer's inputs [T, I]: of words those that are no padding, of pictures all."""
    layer_input: Tensor = inputs[0] if isinstance(inputs, tuple) else inputs
    of_words = layer_input.shape[:2] == mask_BL.shape
    seen = layer_input[mask_BL] if of_words else layer_input.reshape(-1, layer_input.shape[-1])
    if rank > min(seen.shape):
        raise ConfigError(
            f"lora.start is eva, and the rank {rank} of {name} is larger than its {seen.shape[1]} inputs or the "
            f"{seen.shape[0]} tokens of a batch of {_ROWS} conversations. Lower lora.rank, or that layer's in "
            "lora.ranks."
        )
    return seen
