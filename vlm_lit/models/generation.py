"""Decoding of left-padded prompts, greedy or sampled, stopped at the end of turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from vlm_lit.models.answer_grammar import AnswerGrammar, GrammarLogits
from vlm_lit.models.finite import WatchedScores
from vlm_lit.models.sampling import SampledTokens, Sampler


@dataclass(frozen=True, kw_only=True)
class StopTokens:
    """Token ids that generation needs: what ends a turn, what pads, and what must never be said (image slots)."""

    end_of_turn: tuple[int, ...]
    pad: int
    forbidden: tuple[int, ...] = ()


@torch.no_grad()
def generate(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    max_new_tokens: int,
    stop: StopTokens,
    processors: Sequence[LogitsProcessor] = (),
    sampler: Sampler | None = None,
    grammar: AnswerGrammar | None = None,
) -> list[list[int]]:
    """Answer each row of a left-padded batch.

    Args:
        model: a model with `generate`, with or without a PEFT shell.
        inputs: `input_ids` [B, L] and whatever else the processor made.
        max_new_tokens: longest answer, in tokens, its end of turn included.
        stop: token ids to stop at, pad with and forbid.
        processors: what sees and may change each step's logits before a token is taken.
        sampler: draws the tokens; None takes the likeliest.
        grammar: what answers are held to.

    Returns:
        B lists of token ids, cut before the end of turn.

    Raises:
        NonFiniteScoresError: no token is the likeliest in some row.
    """
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=list(stop.end_of_turn),
        pad_token_id=stop.pad,
        suppress_tokens=list(stop.forbidden) or None,
    )
    base, watch = without_adapter_shell(model), WatchedScores(at_once=sampler is not None)
    if grammar is not None:
        processors = (*processors, GrammarLogits(grammar))
    if sampler is not None:
        processors = (*processors, SampledTokens(sampler))  # the last, behind what forbids tokens
    with _own_settings_only(base):
        output = base.generate(
            **inputs, generation_config=config, logits_processor=LogitsProcessorList([watch, *processors])
        )
    watch.check()
    new = output[:, inputs["input_ids"].shape[1] :]
    return [cut_at_end(row, stop) for row in new.tolist()]


def cut_at_end(tokens: Sequence[int], stop: StopTokens) -> list[int]:
    """The tokens before the first end of turn or padding."""
    ends = {*stop.end_of_turn, stop.pad}
    length = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return list(tokens[:length])


def without_adapter_shell(model: nn.Module) -> PreTrainedModel:
    """The model under its PEFT shell: adapted all the same, since its layers are."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(inner, PreTrainedModel)
    return inner


@contextmanager
def _own_settings_only(model: PreTrainedModel) -> Iterator[None]:
    """Without the checkpoint's habits: transformers adds its `repetition_penalty`, for one, to every configuration."""
    theirs = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = theirs
