"""Classification: a model is trained to choose an answer from a list."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from transformers import PreTrainedModel

from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import FINGERPRINT
from vlm_lit.models.answer_head import load_classifier
from vlm_lit.models.class_logits import class_logits
from vlm_lit.models.classifier_parts import ClassifierParts
from vlm_lit.models.families import Family, Task
from vlm_lit.models.finite import refuse
from vlm_lit.models.merge.base_source import read_fingerprint
from vlm_lit.objectives.soft_label import SoftLoss, soft_label_loss
from vlm_lit.schema import ClassBatch, PromptBatch, Reply
from vlm_lit.settings import as_settings
from vlm_lit.training.evaluated import EvaluatedModule
from vlm_lit.training.optimization import Decay
from vlm_lit.training.protocols import ChoosesAnswers
from vlm_lit.training.step import StepModule


class ClassifierModule(StepModule, EvaluatedModule):
    """A classifier over a list of answers, trained with soft targets and evaluated as every module is.

    Args:
        parts: per part its precision, training (frozen, lora, full), depth (last_layers) and learning rate.
        objective: `binary` is ViLT's binary cross-entropy over all answers, `softmax` cross-entropy over their softmax.
        dropout: probability of the dropout that the architecture was published with (ViLT: 0.1, which its checkpoints
            on the hub do not say); null takes the checkpoint's.
        answers: the answers to choose from, where no data module says them; null takes the data's vocabulary.
        decay: what the optimizer's weight decay is for: `all` that is trained, or `matrices` alone, without biases and
            norms.
    """

    read_from = "ClassifierDataModule"
    task: Task = "classify"
    weighed_in = "question with an answer in the vocabulary"
    unweighed_remedy = "Check their answers and data.vocabulary."
    dropped_because = "have no answer in the vocabulary"

    def __init__(
        self,
        model_id: str,
        *,
        parts: ClassifierParts = ClassifierParts(),  # noqa: B008 - frozen
        objective: SoftLoss = "binary",
        dropout: float | None = None,
        answers: list[str] | None = None,
        decay: Decay = "all",
        **settings: Any,  # noqa: ANN401 - those of the classes above
    ) -> None:
        super().__init__(model_id, parts=as_settings(ClassifierParts, parts, "model.parts"), **settings)
        if dropout is not None and not 0.0 <= dropout < 1.0:
            raise ConfigError(f"model.dropout is {dropout}; it must lie in [0, 1).")
        self.objective, self.dropout, self.decay = objective, dropout, decay
        self.given_answers = None if answers is None else tuple(answers)

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers to choose from, in the order of the head's rows.

        Raises:
            ConfigError: nothing says them, or the data's are others than the module was made with.
        """
        data = getattr(self._trainer, "datamodule", None)
        if not isinstance(data, ChoosesAnswers):
            if self.given_answers is None:
                raise ConfigError(
                    f"Which answers can be chosen? {type(self).__name__} has no data module that says them: give it "
                    "answers=[...], or the trainer a ClassifierDataModule."
                )
            return self.given_answers
        own = data.vocabulary.answers
        if self.given_answers is not None and self.given_answers != own:
            raise ConfigError(
                f"model.answers has {len(self.given_answers):,} answers, and the data's vocabulary {len(own):,}, or in "
                "another order. Set data.init_args.vocabulary.file to the answers.json of the run."
            )
        return own

    def read_base(self, device: torch.device) -> tuple[PreTrainedModel, Family]:
        """The checkpoint with a head for the answers, each part in its precision."""
        answers = self.answers
        self._check_adapter(answers)
        base, family, report = load_classifier(
            self.model_id,
            answers,
            parts=self.parts,
            quantization=self.quantization,
            seed=self.seed,
            revision=self.revision,
            attention=self.attention,
            device=device,
            dropout=self.dropout,
        )
        rank_zero_info(report.words)
        self._check_words(int(base.config.max_position_embeddings))
        return base, family

    def _check_adapter(self, answers: tuple[str, ...]) -> None:
        """Refuse an adapter whose head has other rows."""
        if self.adapter is None or not (Path(self.adapter) / FINGERPRINT).is_file():
            return
        kept = tuple(read_fingerprint(Path(self.adapter)).get("answers") or ())
        if kept != answers:
            raise ConfigError(
                f"The adapter in {self.adapter} chooses from {len(kept):,} answers, and this run from "
                f"{len(answers):,}, or in another order. Set data.init_args.vocabulary.file to the answers.json of its "
                "run."
            )

    def _check_words(self, positions: int) -> None:
        data = getattr(self._trainer, "datamodule", None)
        if isinstance(data, ChoosesAnswers) and data.most_words > positions:
            raise ConfigError(
                f"data.most_words is {data.most_words}, and the checkpoint has positions for {positions} tokens of a "
                f"question. Set it to {positions} at most."
            )

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be the same for trained weights to fit, the answers among it."""
        return {**super().identity, "answers": list(self.answers)}

    def _hyperparameters(self) -> dict[str, Any]:
        return {**super()._hyperparameters(), "answers": list(self.answers)}

    def logits(self, batch: ClassBatch | PromptBatch) -> Tensor:
        """The logits [B, N] of a batch of questions, in float32."""
        # A training step has seeded the global generator, which dropout draws from as well.
        base = self.base
        assert isinstance(base, PreTrainedModel)
        return class_logits(base, batch.inputs, None if self.training else self.seed)

    def loss(self, batch: ClassBatch) -> Tensor:
        """The summed loss of a micro-batch's questions (a scalar, in nats)."""
        return soft_label_loss(self.logits(batch), batch.targets, self.objective)

    def replies(self, batch: PromptBatch) -> list[Reply]:
        """The likeliest answer to each question, with its probability."""
        logits = self.logits(batch).double()
        refuse(~logits.isfinite().all(1))
        shares = logits.sigmoid() if self.objective == "binary" else logits.softmax(1)
        sure, best = shares.max(1)
        return [
            Reply(self.answers[row], confidence=share) for row, share in zip(best.tolist(), sure.tolist(), strict=True)
        ]
