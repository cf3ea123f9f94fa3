"""Grammar of answers: generated answers held to a JSON Schema, token by token.

At each step the tokens that no answer of the schema could go on with are hidden from whoever takes the next one, by the
library llguidance. Until an answer is whole, its end of turn is hidden as well.

Q = questions, V = vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from vlm_lit.errors import ConfigError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_BITS: Final = 32
_SPACES: Final = r"[ \t\r\n]{0,16}"
"""Between two parts of an answer: some, in any style, but not for ever."""


class AnswerGrammar:
    """A JSON Schema for a model's answers.

    Args:
        schema: the schema; whatever llguidance does not know of it is refused.
        named: what the schema is called, for errors.
        tokenizer: the model's, a fast one.
        end_of_turn: the tokens that end an answer.

    Raises:
        ConfigError: llguidance is not installed, or does not take the schema or the tokenizer.
    """

    def __init__(
        self, schema: Mapping[str, Any], named: str, tokenizer: PreTrainedTokenizerBase, end_of_turn: Sequence[int]
    ) -> None:
        try:
            from llguidance import LLMatcher
        except ImportError as error:
            raise ConfigError("answer_schema needs the library llguidance: pip install 'vlm_lit[grammar]'.") from error
        self.tokenizer, self.end_of_turn = tokenizer, list(end_of_turn)
        self._words: dict[int, LLTokenizer] = {}
        try:
            spaces: Any = {"whitespace_pattern": _SPACES}
            self._grammar: str = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=spaces)
            wrong, said = LLMatcher.validate_grammar_with_warnings(self._grammar)
        except (ValueError, RecursionError) as error:
            wrong, said = True, [str(error)]
        if wrong or said:
            raise ConfigError(f"answer_schema {named} cannot be kept to while generating: {' '.join(said)}")

    def matcher(self, vocabulary: int) -> LLMatcher:
        """What follows one answer, for logits over so many tokens.

        Raises:
            ConfigError: the tokenizer is of a kind that llguidance does not know.
        """
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        if vocabulary not in self._words:
            try:
                self._words[vocabulary] = from_tokenizer(self.tokenizer, vocabulary, self.end_of_turn)
            except (ValueError, AttributeError, AssertionError) as error:
                raise ConfigError(f"answer_schema: llguidance cannot use this model's tokenizer: {error}") from error
        return LLMatcher(self._words[vocabulary], self._grammar, log_level=0)


class HeldAnswers:
    """Some answers that are being generated, each held to the grammar.

    Args:
        grammar: the grammar.
        count: how many answers there are.
    """

    def __init__(self, grammar: AnswerGrammar, count: int) -> None:
        self.grammar = grammar
        self._matchers: list[LLMatcher | None] = [None] * count

    def hide(self, logits: Tensor, questions: Sequence[int]) -> None:
        """Hide what may not come next, in place.

        Args:
            logits: of the next token [Q, V].
            questions: which answer each row belongs to.
        """
        vocabulary = logits.shape[-1]
        allowed = torch.zeros(len(questions), -(-vocabulary // _BITS), dtype=torch.int32)
        for row, question in zip(allowed, questions, strict=True):
            self._matcher(question, vocabulary).unsafe_compute_mask_ptr(
                row.data_ptr(), row.numel() * row.element_size()
            )
        bits = torch.arange(_BITS, dtype=torch.int32)
        known = ((allowed[..., None] >> bits) & 1).flatten(1)[:, :vocabulary].bool()
        logits.masked_fill_(~known.to(logits.device), -torch.inf)

    def take(self, questions: Sequence[int], tokens: Sequence[int]) -> None:
        """Go on behind the tokens that were taken, one for each of some answers."""
        for question, token in zip(questions, tokens, strict=True):
            matcher = self._matchers[question]
            assert matcher is not None
            if not matcher.is_stopped():
                matcher.consume_token(token)

    def _matcher(self, question: int, vocabulary: int) -> LLMatcher:
        matcher = self._matchers[question]
        if matcher is None:
            matcher = self._matchers[question] = self.grammar.matcher(vocabulary)
        return matcher


class GrammarLogits(LogitsProcessor):  # type: ignore[misc]
    """The same for transformers' `generate`, whose rows are the answers.

    Args:
        grammar: the grammar.
    """

    def __init__(self, grammar: AnswerGrammar) -> None:
        self.grammar = grammar
        self._held: HeldAnswers | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The logits [Q, V] with what may not come next hidden, behind tokens [Q, L]."""
        rows = range(len(input_ids))
        if self._held is None:
            self._held = HeldAnswers(self.grammar, len(input_ids))
        else:
            self._held.take(rows, input_ids[:, -1].tolist())
        scores = scores.clone()  # type: ignore[assignment]
        self._held.hide(scores, rows)
        return scores
