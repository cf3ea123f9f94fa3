import lightning
from torch import Tensor
from torch.nn.functional import cross_entropy

from vlm_lit import ConversationDataModule, SupervisedModule, TokenBatch


class Smoothed(SupervisedModule):
    """Supervised fine-tuning with smoothed labels."""

    def __init__(self, model_id: str, smoothing: float = 0.1, **settings: object) -> None:
        super().__init__(model_id, **settings)
        self.smoothing = smoothing

    def loss(self, batch: TokenBatch) -> Tensor:
        """The sum over the supervised tokens; the step divides it by their number."""
        logits = self.logits(self.hidden_states(batch))[:, :-1].float()
        return cross_entropy(
            logits.flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum", label_smoothing=self.smoothing
        )


model_id = "llava-hf/llava-1.5-7b-hf"
data = ConversationDataModule(model_id, train="train.json", val="val.json", effective_batch=16)
trainer = lightning.Trainer(max_epochs=3, precision="bf16-mixed")
trainer.fit(Smoothed(model_id, smoothing=0.2), data)
