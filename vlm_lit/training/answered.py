"""Answers of a causal language model: generated, or chosen from a closed set by likelihood."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.errors import ConfigError
from vlm_lit.files.json_schema import read_schema
from vlm_lit.models.head import head_logits
from vlm_lit.models.hidden_states import hidden_states, supervised_states
from vlm_lit.models.sampling import SamplingSettings
from vlm_lit.schema import IGNORE_INDEX, PromptBatch, Reply, TokenBatch
from vlm_lit.settings import as_settings
from vlm_lit.training.answering import Answering, ClosedSet, Score
from vlm_lit.training.eva_start import start_at_inputs
from vlm_lit.training.evaluated import EvaluatedModule
from vlm_lit.training.evaluation import ece_name
from vlm_lit.training.running_replies import LONG, RunningReplies


class AnsweredModule(EvaluatedModule):
    """A module whose model says its replies, token by token.

    Args:
        max_new_tokens: longest answer in an evaluation, in tokens.
        answer_from: the answers that an evaluation chooses from by log-likelihood, without generation; null generates.
        answer_score: sum takes the likeliest of them, mean divides each log-likelihood by the answer's tokens.
        answer_schema: file with a JSON Schema that generated answers are held to, token by token (needs llguidance);
            null holds them to nothing. An evaluation's results name it.
        sampling: draw the tokens of answers, for example {temperature: 0.7, top_p: 0.9}; null takes the likeliest.
    """

    def __init__(
        self,
        model_id: str,
        *,
        max_new_tokens: int = 16,
        answer_from: list[str] | None = None,
        answer_score: Score = "sum",
        answer_schema: str | None = None,
        sampling: SamplingSettings | None = None,
        **settings: Any,  # noqa: ANN401 - those of the classes above
    ) -> None:
        super().__init__(model_id, **settings)
        if max_new_tokens < 1:
            raise ConfigError(f"model.max_new_tokens is {max_new_tokens}; it must be at least 1.")
        self.max_new_tokens = max_new_tokens
        self.answer_from = ClosedSet(answer_from, answer_score) if answer_from is not None else None
        self.answer_schema = answer_schema
        self.sampling = None if sampling is None else as_settings(SamplingSettings, sampling, "model.sampling")
        if self.answer_from is not None and self.sampling is not None:
            raise ConfigError(
                "model.answer_from chooses each answer from a list, so there is nothing to sample: set model.sampling "
                "to null, or model.answer_from."
            )
        if self.answer_from is not None and answer_schema is not None:
            raise ConfigError(
                "model.answer_from chooses each answer from a list, so there is nothing to hold to a schema: set "
                "model.answer_schema to null, or model.answer_from."
            )
        if answer_schema is not None:
            read_schema(
                answer_schema, "model.answer_schema"
            )  # a file that is none is refused before anything is loaded
        self.calibration = ece_name(answer_score if answer_from is not None else "sum")
        self._answering: Answering | None = None

    def hidden_states(self, batch: TokenBatch) -> Tensor:
        """The last hidden states [B, L, D] of a training batch; the head is not run."""
        assert self.family is not None
        return hidden_states(self.base, self.family, batch)

    def supervised_states(self, batch: TokenBatch) -> Tensor:
        """The last hidden states [S, D] of the positions whose next token is supervised, row by row."""
        assert self.family is not None
        if type(self).hidden_states is not AnsweredModule.hidden_states:  # a module has its own
            return self.hidden_states(batch)[:, :-1][batch.labels[:, 1:] != IGNORE_INDEX]
        return supervised_states(self.base, self.family, batch)

    def start_at_inputs(self) -> None:
        """Set EVA's start in a `fit`; until then B is zero, which is the start whatever A is."""
        data = getattr(self.trainer, "datamodule", None)
        if self.trainer.state.fn != "fit" or not isinstance(data, TokenRows):
            return
        assert self.model is not None
        device = next(self.model.parameters()).device
        with self.trainer.precision_plugin.forward_context():
            start_at_inputs(self.model, data, self.hidden_states, seed=self.seed, device=device)
        self.train(self.training)  # PEFT has put all parts into one mode

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits [..., V] of hidden states [..., D], as the model's own forward pass makes them."""
        return head_logits(self.base, hidden)

    @property
    def _encoder(self) -> ConversationEncoder:
        data = self.data
        if not isinstance(data, TokenRows):
            raise ConfigError(
                f"{type(self).__name__} answers from rows of tokens, which {type(data).__name__} does not make. Set "
                f"data.class_path to vlm_lit.{self.read_from}."
            )
        return data.encoder

    def replies(self, batch: PromptBatch) -> list[Reply]:
        """The model's answers to a batch of prompts, with their confidence where they are chosen from a list."""
        return self._answers().replies(batch, self.max_new_tokens)

    def running_replies(self) -> RunningReplies | None:
        """What replies to several batches at a time, where long answers are generated."""
        generates = type(self).replies is AnsweredModule.replies and self.answer_from is None
        if not generates or self.max_new_tokens < LONG or not isinstance(self.data, TokenRows):
            return None
        return RunningReplies(self._answers(), self.max_new_tokens)

    def _answers(self) -> Answering:
        if self._answering is None:
            assert self.model is not None
            assert self.family is not None
            self._answering = Answering(
                self.model, self.family, self._encoder, self.answer_from, self.sampling, self.answer_schema
            )
        return self._answering
