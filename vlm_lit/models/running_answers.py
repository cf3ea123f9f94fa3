"""Answers that are being said: questions of some rows, each a token further with every step, which more may join.

A step appends a token to each. An answer that has ended leaves, and its row with the last of the row's answers; others
take their place, so that a few long ones do not keep the rest waiting. What an answer reads is its own row alone, so it
is the same whoever is answered beside it.

N = questions of the reader, n = those that are not answered yet, V = vocabulary, D = width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor, nn

from vlm_lit.models.answer_grammar import AnswerGrammar, HeldAnswers
from vlm_lit.models.families import Family
from vlm_lit.models.finite import NonFiniteScoresError, senseless
from vlm_lit.models.generation import StopTokens, cut_at_end, without_adapter_shell
from vlm_lit.models.head import head_logits
from vlm_lit.models.packed_rows import PrefixReader
from vlm_lit.models.padded_rows import read_prompts
from vlm_lit.models.sampling import Sampler


@dataclass(frozen=True, eq=False)
class _Group:
    """What the questions that came together are answered with."""

    sampler: Sampler | None
    held: HeldAnswers | None

    def tokens(self, logits: Tensor, answers: Sequence[int]) -> list[int]:
        """The next token of some of its answers, from logits [n, V] that are changed."""
        if self.held is not None:
            self.held.hide(logits, answers)
        taken: list[int] = logits.argmax(-1).tolist() if self.sampler is None else self.sampler(logits, answers)
        if self.held is not None:
            self.held.take(answers, taken)
        return taken


@dataclass(eq=False)
class _Asked:
    """A question: its number among all that ever came, its group and place in it, and its answer so far."""

    number: int
    group: _Group
    place: int
    said: list[int] = field(default_factory=list)


class RunningAnswers:
    """Answers in the making.

    Args:
        model: the model, with or without a PEFT shell.
        family: how positions are counted.
        max_new_tokens: longest answer, in tokens, its end of turn included.
        stop: token ids to stop at, pad with and forbid.
        grammar: what answers are held to.
    """

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        *,
        max_new_tokens: int,
        stop: StopTokens,
        grammar: AnswerGrammar | None = None,
    ) -> None:
        self.base, self.family = without_adapter_shell(model), family
        self.max_new_tokens, self.stop, self.grammar = max_new_tokens, stop, grammar
        self.count = 0  # of all questions that ever came
        self._reader: PrefixReader | None = None
        self._asked: list[_Asked] = []  # the reader's N questions
        self._left: list[int] = []  # the n of them that are not answered yet
        self._hidden: Tensor | None = None  # what their next tokens come from [n, D]
        self._bad: Tensor | None = None  # of which no token was the likeliest [N]

    @torch.no_grad()
    def add(self, inputs: Mapping[str, Tensor], segments: Tensor | None, sampler: Sampler | None = None) -> None:
        """Read the questions of a batch; they are numbered on behind those before them.

        Numbers follow the order of rows, then of segments: the questions of the first row, those of the second, ...

        Args:
            inputs: `input_ids` [B, L] and whatever else the processor made.
            segments: which question each token belongs to [B, L], of packed rows padded on the right: 0 what a row's
                questions share, 1, 2, ... their own. None for rows of one question, padded on the left.
            sampler: draws their tokens; None takes the likeliest.
        """
        reader = read_prompts(self.base, inputs, segments, self.family)
        count, hidden, left = len(reader.rows), reader.hidden, [self._asked[q] for q in self._left]
        if self._reader is not None and self._hidden is not None and left:
            reader, hidden = self._reader.joined(self._left, reader), torch.cat([self._hidden, hidden])
        group = _Group(sampler, None if self.grammar is None else HeldAnswers(self.grammar, count))
        new = [_Asked(self.count + place, group, place) for place in range(count)]
        self._asked, self._reader, self._hidden = [*left, *new], reader, hidden
        self._left, self.count = list(range(len(self._asked))), self.count + count
        self._bad = torch.zeros(len(self._asked), dtype=torch.bool, device=hidden.device)

    @torch.no_grad()
    def run(self, until: int = 0) -> list[tuple[int, list[int]]]:
        """Go on until at most so many are unanswered; the others' numbers and tokens, cut before the end of turn.

        Raises:
            NonFiniteScoresError: no token is the likeliest behind some question; names it by its number.
        """
        ended: list[_Asked] = []
        while len(self._left) > until:
            ended += self._step()
        self._refuse()
        if not self._left:
            self._reader, self._hidden = None, None  # nobody reads what they hold
        return [(asked.number, cut_at_end(asked.said, self.stop)) for asked in ended]

    def _step(self) -> list[_Asked]:
        """A token more of each answer; those that have ended with it are returned."""
        assert self._reader is not None
        assert self._hidden is not None
        assert self._bad is not None
        logits = head_logits(self.base, self._hidden)
        self._bad[self._left] |= senseless(logits)
        if any(self._asked[q].group.sampler is not None for q in self._left):  # it could draw nothing from them
            self._refuse()
        never = [token for token in self.stop.forbidden if token < logits.shape[-1]]  # Mllama's head has no image token
        logits[:, never] = -torch.inf
        for question, token in zip(self._left, self._tokens(logits), strict=True):
            self._asked[question].said.append(token)
        ended = [q for q in self._left if self._has_ended(self._asked[q].said)]
        self._left = [q for q in self._left if q not in ended]
        if self._left:
            device, said = self._hidden.device, [self._asked[q].said for q in self._left]
            last = torch.tensor([tokens[-1:] for tokens in said], device=device)
            depths = torch.tensor([[len(tokens) - 1] for tokens in said], device=device)
            itself = torch.ones(1, 1, dtype=torch.bool, device=device)
            self._hidden = self._reader.append(self._left, last, depths, itself)[:, 0]
        return [self._asked[q] for q in ended]

    def _tokens(self, logits: Tensor) -> list[int]:
        """The next token of each unanswered question, from logits [n, V]."""
        found: list[int] = []
        for group, some in groupby((self._asked[q] for q in self._left), key=lambda asked: asked.group):
            places = [asked.place for asked in some]
            found += group.tokens(logits[len(found) : len(found) + len(places)], places)
        return found

    def _has_ended(self, said: Sequence[int]) -> bool:
        return len(said) == self.max_new_tokens or said[-1] in (*self.stop.end_of_turn, self.stop.pad)

    def _refuse(self) -> None:
        if self._bad is not None and (rows := self._bad.nonzero()[:, 0].tolist()):
            raise NonFiniteScoresError([self._asked[q].number for q in rows])
