"""Closed-set scoring: the log-likelihood of each of a list of answers, without generation.

An answer's log-likelihood is the sum of its tokens' log-probabilities, its end of turn included. Candidates that begin
alike form a tree, so that a beginning is read once; the tree is appended to every question, a token seeing what leads
to it. N = questions, C = candidates, T = tokens of a tree, V = vocabulary, D = width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, PreTrainedModel

from vlm_lit.models.attention import readable_once
from vlm_lit.models.families import Family
from vlm_lit.models.finite import refuse
from vlm_lit.models.generation import StopTokens, generate, without_adapter_shell
from vlm_lit.models.head import head_logits
from vlm_lit.models.packed_rows import PrefixReader
from vlm_lit.models.padded_rows import read_prompts

_AT_ONCE: Final = 512  # tokens in one pass, over all questions
_LOGITS_AT_ONCE: Final = 128  # rows of V logits held together


@torch.no_grad()
def closed_set_scores(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    segments: Tensor | None,
    candidates: Sequence[Sequence[int]],
    *,
    family: Family,
    pad: int,
    per_token: bool = False,
) -> Tensor:
    """Log-likelihoods [N, C] in nats (float32).

    Args:
        model: the model, with or without a PEFT shell.
        inputs: prompts: packed rows padded on the right, or a row a question padded on the left.
        segments: which question each token of packed rows belongs to [B, L]; None for left-padded rows, which some
            models must read again for every candidate.
        candidates: C lists of token ids, each with its end of turn.
        family: how positions are counted.
        pad: token id that pads.
        per_token: the mean over a candidate's tokens instead of the sum, which favours short ones.

    Raises:
        NonFiniteScoresError: some question's are no numbers.
    """
    base = without_adapter_shell(model)
    if segments is not None or readable_once(base, family):
        scores = _by_tree(base, read_prompts(base, inputs, segments, family), candidates)
    else:
        scores = torch.stack([_forced(model, inputs, said, pad) for said in candidates], 1)
    refuse(~scores.isfinite().all(-1))
    lengths = torch.tensor([len(said) for said in candidates], device=scores.device)
    return scores / lengths if per_token else scores


# Prompts that are read once ------------------------------------------------------------------------------------------


@dataclass
class _Tree:
    """Beginnings of candidates: T tokens, and for each the places of what leads to it and its own.

    `scored` are, candidate by candidate, the places behind which its tokens stand; -1 is the question.
    """

    tokens: list[int] = field(default_factory=list)
    lines: list[list[int]] = field(default_factory=list)
    places: dict[tuple[int, ...], int] = field(default_factory=dict)
    scored: dict[int, list[int]] = field(default_factory=dict)

    def add(self, candidate: int, said: Sequence[int]) -> None:
        line: list[int] = []
        for depth, token in enumerate(said[:-1], 1):  # nothing follows the end of turn
            place = self.places.setdefault(tuple(said[:depth]), len(self.tokens))
            line = [*line, place]
            if place == len(self.tokens):
                self.tokens.append(token)
                self.lines.append(line)
        self.scored[candidate] = [-1, *line]

    def sees(self) -> Tensor:
        """Which token sees which [T, T]: those that lead to it, and itself."""
        seen = torch.zeros(len(self.tokens), len(self.tokens), dtype=torch.bool)
        for place, line in enumerate(self.lines):
            seen[place, line] = True
        return seen


def _trees(candidates: Sequence[Sequence[int]], most: int) -> Iterator[_Tree]:
    """Trees of about `most` tokens; neighbours in the alphabet, so that they share beginnings."""
    tree = _Tree()
    for candidate in sorted(range(len(candidates)), key=lambda c: list(candidates[c])):
        tree.add(candidate, candidates[candidate])
        if len(tree.tokens) >= most:
            yield tree
            tree = _Tree()
    if tree.scored:
        yield tree


def _by_tree(base: PreTrainedModel, reader: PrefixReader, candidates: Sequence[Sequence[int]]) -> Tensor:
    """Log-likelihoods [N, C] of the candidates behind each question, float32."""
    questions = range(len(reader.rows))
    scores = reader.hidden.new_zeros(len(questions), len(candidates), dtype=torch.float32)
    for tree in _trees(candidates, max(1, _AT_ONCE // len(questions))):
        hidden = _behind(reader, tree)
        places = torch.tensor([place for line in tree.scored.values() for place in line], device=hidden.device)
        tokens = torch.tensor([token for c in tree.scored for token in candidates[c]], device=hidden.device)
        parts = torch.split(hidden, max(1, _LOGITS_AT_ONCE // hidden.shape[1]))
        found = torch.cat([head_logits(base, part).float().log_softmax(-1)[:, places, tokens] for part in parts])
        each = torch.split(found, [len(line) for line in tree.scored.values()], 1)
        scores[:, list(tree.scored)] = torch.stack([terms.sum(1) for terms in each], 1)
    return scores


def _behind(reader: PrefixReader, tree: _Tree) -> Tensor:
    """The hidden states behind each token of the tree, and last behind the question itself [N, T + 1, D]."""
    hidden, length = reader.hidden[:, None], reader.owners.shape[1]
    if not tree.tokens:
        return hidden
    questions = range(len(reader.rows))
    tokens = torch.tensor(tree.tokens, device=hidden.device).expand(len(questions), -1)
    depths = torch.tensor([len(line) - 1 for line in tree.lines], device=hidden.device)
    behind = reader.append(questions, tokens, depths, tree.sees().to(hidden.device))
    reader.crop(length)
    return torch.cat([behind, hidden], 1)


# Prompts that are read for every candidate ---------------------------------------------------------------------------


class _Forced(LogitsProcessor):  # type: ignore[misc]
    """Lets generation say one thing only, and adds up how likely that was."""

    def __init__(self, said: Sequence[int]) -> None:
        self.left, self.total = list(said), torch.zeros(())

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores [N, V] of the next token behind `input_ids` [N, L], with one token possible."""
        token = self.left.pop(0)
        self.total = self.total.to(scores.device) + scores.float().log_softmax(-1)[:, token]
        only = torch.full_like(scores, -torch.inf)
        only[:, token] = 0.0
        return only


def _forced(model: nn.Module, inputs: Mapping[str, Tensor], said: Sequence[int], pad: int) -> Tensor:
    """One candidate's log-likelihoods [N], by the steps that generation itself takes."""
    forced = _Forced(said)
    stop = StopTokens(end_of_turn=(said[-1],), pad=pad)
    generate(model, inputs, max_new_tokens=len(said), stop=stop, processors=[forced])
    return forced.total
