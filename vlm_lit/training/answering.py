"""Answers to a batch of prompts: generated, or the likeliest of a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from peft import PeftModel
from torch import Tensor

from vlm_lit.data.answers.candidates import candidate_tokens
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.errors import ConfigError
from vlm_lit.files.json_schema import read_schema
from vlm_lit.models.answer_grammar import AnswerGrammar
from vlm_lit.models.closed_set import closed_set_scores
from vlm_lit.models.families import Family
from vlm_lit.models.generation import StopTokens, generate, without_adapter_shell
from vlm_lit.models.sampling import Sampler, SamplingSettings
from vlm_lit.models.shared_generation import generate_shared
from vlm_lit.models.vision_features import with_features
from vlm_lit.schema import PromptBatch, Reply

Score = Literal["sum", "mean"]


@dataclass(frozen=True)
class ClosedSet:
    """Answers to choose from, by log-likelihood.

    Args:
        answers: all that may be answered.
        score: `sum` takes the answer that is likeliest; `mean` divides each log-likelihood by the answer's tokens, so
            that a long one is at no disadvantage.

    Raises:
        ConfigError: there are fewer than two answers, an empty one, or one twice.
    """

    answers: list[str]
    score: Score = "sum"

    def __post_init__(self) -> None:
        words = [answer.strip() for answer in self.answers]
        twice = next((word for word in words if words.count(word) > 1), None)
        if len(words) < 2 or not all(words):
            raise ConfigError(f"model.answer_from is {self.answers}; name two answers or more, none of them empty.")
        if twice is not None:
            raise ConfigError(f"model.answer_from names {twice!r} twice. Take one out.")


class Answering:
    """Answers prompts.

    Args:
        model: the adapted model.
        family: its facts.
        encoder: made the prompts.
        answer_from: answers to choose from; None generates.
        sampling: draws what is generated, each answer by its conversation's id; None takes the likeliest tokens.
        answer_schema: file with a JSON Schema that generated answers are held to; None holds them to nothing.
    """

    def __init__(
        self,
        model: PeftModel,
        family: Family,
        encoder: ConversationEncoder,
        answer_from: ClosedSet | None = None,
        sampling: SamplingSettings | None = None,
        answer_schema: str | None = None,
    ) -> None:
        assert answer_from is None or (sampling is None and answer_schema is None)
        self.model, self.family, self.encoder = model, family, encoder
        self.answer_from, self.sampling, self.answer_schema = answer_from, sampling, answer_schema

    @cached_property
    def stop(self) -> StopTokens:
        """What ends, pads and may not stand in an answer.

        Ends are the template's, the tokenizer's, and those that the checkpoint's generation settings list: Llama 3.2
        has three. Of a config's default numbers, which may be words of this tokenizer, control tokens count alone.
        """
        names = ("image_token_id", "video_token_id")
        placeholders = [getattr(self.encoder.processor, name, None) for name in names]
        settings = without_adapter_shell(self.model).generation_config
        theirs = settings.eos_token_id if settings is not None else None
        listed = {theirs} if isinstance(theirs, int) else {*(theirs or ())}
        controls = listed & self.encoder.tokenizer.added_tokens_decoder.keys()
        return StopTokens(
            end_of_turn=tuple(sorted({*self.encoder.end_of_turn, *controls})),
            pad=int(self.encoder.tokenizer.pad_token_id),
            forbidden=tuple(int(token) for token in placeholders if token is not None),
        )

    @cached_property
    def grammar(self) -> AnswerGrammar | None:
        """What generated answers are held to."""
        if self.answer_schema is None:
            return None
        schema = read_schema(self.answer_schema, "model.answer_schema")
        return AnswerGrammar(schema, self.answer_schema, self.encoder.tokenizer, self.stop.end_of_turn)

    @cached_property
    def _candidates(self) -> list[list[int]]:
        assert self.answer_from is not None
        return candidate_tokens(self.encoder, self.answer_from.answers)

    def replies(self, batch: PromptBatch, max_new_tokens: int) -> list[Reply]:
        """An answer to each conversation of the batch, with its confidence where it was chosen from a list."""
        inputs = self.inputs(batch)
        if self.answer_from is not None:
            return self._chosen(inputs, batch.segments, self.answer_from)
        tokens = self.tokens(inputs, batch.segments, max_new_tokens, self.sampler(batch))
        return [self.reply(said, max_new_tokens) for said in tokens]

    def inputs(self, batch: PromptBatch) -> Mapping[str, Tensor]:
        """What the model is given of the batch."""
        if batch.features is None:
            return batch.inputs
        return with_features(without_adapter_shell(self.model), self.family, batch.inputs, batch.features)

    def sampler(self, batch: PromptBatch) -> Sampler | None:
        """What draws the batch's answers; None where the likeliest tokens are taken."""
        return None if self.sampling is None else Sampler(self.sampling, [c.id for c in batch.conversations])

    def reply(self, said: list[int], longest: int) -> Reply:
        """What was said, in words."""
        text = self.encoder.tokenizer.decode(said, skip_special_tokens=True)
        # The end of turn counts among the limit's tokens and is taken off, so a finished answer has fewer.
        return Reply(str(text).strip(), unfinished=len(said) == longest)

    def tokens(
        self,
        inputs: Mapping[str, Any],
        segments: Tensor | None,
        max_new_tokens: int,
        sampler: Sampler | None = None,
    ) -> list[list[int]]:
        """What the model says to each prompt, as token ids before the end of turn."""
        settings: dict[str, Any] = {
            "max_new_tokens": max_new_tokens, "stop": self.stop, "sampler": sampler, "grammar": self.grammar,
        }  # fmt: skip
        if segments is None:
            return generate(self.model, inputs, **settings)
        return generate_shared(self.model, inputs, segments, family=self.family, **settings)

    def _chosen(self, inputs: Mapping[str, Any], segments: Tensor | None, given: ClosedSet) -> list[Reply]:
        scores = closed_set_scores(
            self.model,
            inputs,
            segments,
            self._candidates,
            family=self.family,
            pad=self.stop.pad,
            per_token=given.score == "mean",
        )
        # In float64 the surest answers are not all rounded to one.
        shares = scores.double().softmax(1)
        best = scores.argmax(1)
        sure = shares.gather(1, best[:, None])[:, 0]
        return [Reply(given.answers[b].strip(), c) for b, c in zip(best.tolist(), sure.tolist(), strict=True)]
