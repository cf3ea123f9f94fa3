"""A module that is none of ours: Lightning's own hooks, a whole transformers model, a loss and short answers."""

from __future__ import annotations

import lightning
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageTextToText

from vlm_lit.metrics.catalogue import rule
from vlm_lit.metrics.rules import Rule
from vlm_lit.schema import EvaluationBatch, Prediction, StepBatch, TokenBatch


class Foreign(lightning.LightningModule):
    """Trains all but the vision tower with Lightning's automatic optimization; answers one token a question."""

    def __init__(self, model_id: str, revision: str | None = None, seed: int = 0) -> None:
        super().__init__()
        self.model_id, self.revision, self.seed = model_id, revision, seed
        self.vlm: torch.nn.Module | None = None
        self.last_predictions: list[Prediction] = []
        self.last_metrics: dict[str, float] = {}

    def configure_model(self) -> None:
        if self.vlm is None:
            self.vlm = AutoModelForImageTextToText.from_pretrained(self.model_id, dtype=torch.float32)
            self.vlm.get_submodule("model.vision_tower").requires_grad_(False)

    def judged_by(self, *, one_reference: bool = False) -> list[Rule]:
        return [rule("exact_match", {})]

    def loss(self, batch: TokenBatch) -> Tensor:
        assert self.vlm is not None
        logits = self.vlm(**batch.inputs).logits[:, :-1]
        return cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum")

    def training_step(self, step: StepBatch, batch_idx: int) -> Tensor:
        loss = torch.stack([self.loss(batch) for batch in step.micro_batches]).sum() / step.weight
        self.log("train/loss", loss, batch_size=1)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def predictions(self, prompts: EvaluationBatch) -> list[Prediction]:
        found = {p.id: p for batch in prompts.batches for p in self._answers(batch.conversations, batch.inputs)}
        return [found[name] for name in prompts.ids]

    def _answers(self, conversations: list, inputs: dict[str, Tensor]) -> list[Prediction]:  # type: ignore[type-arg]
        assert self.vlm is not None
        tokenizer = self.trainer.datamodule.processor.tokenizer  # type: ignore[attr-defined]
        words = [tokenizer.decode([row]) for row in self.vlm(**inputs).logits[:, -1].argmax(-1).tolist()]
        return [
            Prediction(
                id=c.id,
                image=str(c.images[0]),
                image_id=c.image_id,
                question=c.turns[0].text,
                references=c.references,
                prediction=word.strip(),
                score=float(word.strip() in c.references),
                groups=c.groups,
            )
            for c, word in zip(conversations, words, strict=True)
        ]

    def on_validation_epoch_start(self) -> None:
        self.last_predictions = []

    def validation_step(self, prompts: EvaluationBatch, batch_idx: int) -> None:
        self.last_predictions += self.predictions(prompts)

    def on_validation_epoch_end(self) -> None:
        self.last_metrics = {"right": sum(p.score or 0.0 for p in self.last_predictions) / len(self.last_predictions)}
        self.log("val/right", self.last_metrics["right"], batch_size=1)

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end
