"""Decoding, greedy or sampled, for questions that share a row: the image and its prefix are read once.

Every step appends one token to each question that is still being answered; where all of a row's questions are
answered, the row leaves.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vlm_lit.models.answer_grammar import AnswerGrammar, HeldAnswers
from vlm_lit.models.families import Family
from vlm_lit.models.finite import refuse, senseless
from vlm_lit.models.generation import StopTokens, cut_at_end, without_adapter_shell
from vlm_lit.models.head import head_logits
from vlm_lit.models.packed_rows import read
from vlm_lit.models.sampling import Sampler


@torch.no_grad()
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
    base = without_adapter_shell(model)
    reader = read(base, inputs, segments, family)
    said: list[list[int]] = [[] for _ in reader.rows]
    unfinished, hidden = list(range(len(said))), reader.hidden
    itself = torch.ones(1, 1, dtype=torch.bool, device=segments.device)
    bad = torch.zeros(len(said), dtype=torch.bool, device=segments.device)
    held = None if grammar is None else HeldAnswers(grammar, len(said))
    for length in range(1, max_new_tokens + 1):
        logits = head_logits(base, hidden)
        bad[unfinished] |= senseless(logits)
        if sampler is not None:  # it could draw nothing from them
            refuse(bad)
        logits[:, list(stop.forbidden)] = -torch.inf
        if held is not None:
            held.hide(logits, unfinished)
        tokens = logits.argmax(-1).tolist() if sampler is None else sampler(logits, unfinished)
        if held is not None:
            held.take(unfinished, tokens)
        for question, token in zip(unfinished, tokens, strict=True):
            said[question].append(token)
        unfinished = [q for q in unfinished if said[q][-1] not in (*stop.end_of_turn, stop.pad)]
        if not unfinished or length == max_new_tokens:
            break
        last = torch.tensor([said[q][-1:] for q in unfinished], device=segments.device)
        depth = torch.tensor([length - 1], device=segments.device)
        hidden = reader.append(unfinished, last, depth, itself)[:, 0]
    refuse(bad)
    return [cut_at_end(tokens, stop) for tokens in said]
