"""Decoding, greedy or sampled, for questions that share a row: the image and its prefix are read once."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from vlm_lit.models.answer_grammar import AnswerGrammar
from vlm_lit.models.families import Family
from vlm_lit.models.generation import StopTokens
from vlm_lit.models.running_answers import RunningAnswers
from vlm_lit.models.sampling import Sampler


def generate_shared(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    segments: Tensor,
    *,
    family: Family,
    max_new_tokens: int,
    stop: StopTokens,
    sampler: Sampler | None = None,
    grammar: AnswerGrammar | None = None,
) -> list[list[int]]:
    """Answer each question of a right-padded batch of packed rows.

    Args:
        model: the model, with or without a PEFT shell.
        inputs: `input_ids` [B, L] and whatever else the processor made.
        segments: which question each token belongs to [B, L]: 0 what a row's questions share, 1, 2, ... their own.
        family: how positions are counted.
        max_new_tokens: longest answer, in tokens, its end of turn included.
        stop: token ids to stop at, pad with and forbid.
        sampler: draws the tokens; None takes the likeliest.
        grammar: what answers are held to.

    Returns:
        Lists of token ids, cut before the end of turn: the questions of the first row, those of the second, ...

    Raises:
        NonFiniteScoresError: no token is the likeliest behind some question.
    """
    running = RunningAnswers(model, family, max_new_tokens=max_new_tokens, stop=stop, grammar=grammar)
    running.add(inputs, segments, sampler)
    return [tokens for _, tokens in sorted(running.run())]
