import lightning

from vlm_lit import ConversationDataModule, SupervisedModule

model_id = "llava-hf/llava-1.5-7b-hf"
data = ConversationDataModule(model_id, train="train.json", val="val.json", effective_batch=16)
module = SupervisedModule(model_id, lora={"rank": 16}, learning_rate=2e-4)
trainer = lightning.Trainer(max_epochs=3, precision="bf16-mixed")
trainer.fit(module, data)  # the adapter is in lightning_logs/version_0/adapter
