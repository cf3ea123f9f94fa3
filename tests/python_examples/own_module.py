import lightning
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageTextToText

from vlm_lit import ConversationDataModule, StepBatch


class Mine(lightning.LightningModule):
    """A module of one's own, with Lightning's automatic optimization."""

    def __init__(self, model_id: str) -> None:
        super().__init__()
        self.model = AutoModelForImageTextToText.from_pretrained(model_id, dtype=torch.float32)

    def training_step(self, step: StepBatch, batch_idx: int) -> Tensor:
        """One optimizer step: its conversations come in micro-batches of a processor's inputs and labels."""
        losses = [
            cross_entropy(
                self.model(**batch.inputs).logits[:, :-1].flatten(0, 1),
                batch.labels[:, 1:].flatten(),
                reduction="sum",
            )
            for batch in step.micro_batches
        ]
        loss = torch.stack(losses).sum() / step.supervised_tokens
        self.log("train/loss", loss, batch_size=len(step.ids))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Its own optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


model_id = "llava-hf/llava-1.5-7b-hf"
data = ConversationDataModule(model_id, train="train.json", effective_batch=16, micro_batch=8)
trainer = lightning.Trainer(max_epochs=3)
trainer.fit(Mine(model_id), data)
