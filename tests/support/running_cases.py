"""Answers to batches of prompts: those of each batch alone, and those of batches that join others."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from vlm_lit.models.families import Family
from vlm_lit.models.generation import StopTokens, generate
from vlm_lit.models.running_answers import RunningAnswers
from vlm_lit.models.sampling import Sampler, SamplingSettings
from vlm_lit.models.shared_generation import generate_shared
from vlm_lit.schema import PromptBatch

LONGEST = 12


def drawn(batch: PromptBatch, seed: int | None) -> Sampler | None:
    """What draws a batch's answers; None takes the likeliest tokens."""
    return None if seed is None else Sampler(SamplingSettings(seed=seed), [c.id for c in batch.conversations])


def alone(
    model: nn.Module, family: Family, batches: Sequence[PromptBatch], stop: StopTokens, seed: int | None
) -> list[list[int]]:
    """The answers of each batch, without any other; by transformers' own loop where its rows are not packed."""
    found: list[list[int]] = []
    for batch in batches:
        given, sampler = batch.inputs, drawn(batch, seed)
        found += (
            generate(model, given, max_new_tokens=LONGEST, stop=stop, sampler=sampler)
            if batch.segments is None
            else generate_shared(
                model, given, batch.segments, family=family, max_new_tokens=LONGEST, stop=stop, sampler=sampler
            )
        )
    return found


def joined(
    model: nn.Module, family: Family, batches: Sequence[PromptBatch], stop: StopTokens, seed: int | None, *, until: int
) -> tuple[list[list[int]], list[int]]:
    """The answers of batches of which each joins the one before, and how many questions went on beside the next.

    Args:
        model, family, batches, stop, seed: as those of `alone`.
        until: how many questions may be unanswered when the next batch comes.
    """
    running = RunningAnswers(model, family, max_new_tokens=LONGEST, stop=stop)
    found, going_on = dict[int, list[int]](), list[int]()
    for batch in batches:
        running.add(batch.inputs, batch.segments, drawn(batch, seed))
        found |= dict(running.run(until))
        going_on.append(running.count - len(found))
    found |= dict(running.run())
    return [found[number] for number in range(running.count)], going_on[:-1]
