"""What does every way to train a vision-language model share? Loading, adapting, optimizers, checkpoints, answering."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from peft import PeftModel
from torch import Tensor, nn

from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.data.processors import processor_identity
from vlm_lit.data.sources import ConversationDataset
from vlm_lit.models.adapter_state import base_identity, load_adapter, load_trainable_state, trainable_state
from vlm_lit.models.adapters import LoraSettings, adapt
from vlm_lit.models.families import PART_NAMES, Family
from vlm_lit.models.generation import StopTokens, generate
from vlm_lit.models.loading import load_base, needs_autocast
from vlm_lit.models.parts import PartRow, PartsSettings, parts_table
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.schema import Batch, ConfigError, Prediction, PromptBatch
from vlm_lit.training.optimization import Schedule, parameter_groups, schedule

_LIBRARIES: Final = ("torch", "lightning", "transformers", "peft", "bitsandbytes")


def library_versions() -> dict[str, str]:
    """The versions that a result depends on."""
    return {name: version(name) for name in ("vlm_lit", *_LIBRARIES)}


class VisionLanguageModule(LightningModule):
    """A vision-language model whose parts are each stored, trained and stepped as asked.

    Args:
        model_id: local folder or hub id of the checkpoint to start from.
        revision: branch, tag or commit on the hub.
        parts: per part its precision (nf4, int8, bf16, fp32), training (frozen, lora, full) and learning rate.
        quantization: how nf4 and int8 parts are stored.
        lora: rank, alpha, dropout and layers of the low-rank updates.
        adapter: folder of a saved adapter to start from; null starts from the checkpoint as it is.
        attention: transformers' attention implementation; null takes its default.
        activation_checkpointing: recompute the language model's activations in the backward pass.
        optimizer: class of the optimizer; learning rates come from `parts` and `learning_rate`.
        learning_rate: peak learning rate of parts that state none.
        schedule: cosine, linear, constant or constant_with_warmup.
        warmup_ratio: share of the run's steps over which the learning rate rises from zero.
        gradient_clip: largest norm of the gradient; null does not clip.
        max_new_tokens: longest answer in an evaluation, in tokens.
        seed: what the LoRA matrices and dropout follow from; linked to seed_everything.
    """

    automatic_optimization: bool

    def __init__(
        self,
        model_id: str,
        revision: str | None = None,
        parts: PartsSettings = PartsSettings(),  # noqa: B008 - frozen
        quantization: QuantizationSettings = QuantizationSettings(),  # noqa: B008 - frozen
        lora: LoraSettings = LoraSettings(),  # noqa: B008 - frozen
        adapter: str | None = None,
        attention: str | None = None,
        activation_checkpointing: bool = True,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, weight_decay=0.0),
        learning_rate: float = 2e-4,
        schedule: Schedule = "cosine",
        warmup_ratio: float = 0.03,
        gradient_clip: float | None = 1.0,
        max_new_tokens: int = 16,
        seed: int = 42,
    ) -> None:
        super().__init__()
        _check_numbers(learning_rate, warmup_ratio, gradient_clip, max_new_tokens)
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold trained weights only; `on_load_checkpoint` is the strict one
        self.model_id, self.revision = model_id, revision
        self.parts, self.quantization, self.lora, self.adapter = parts, quantization, lora, adapter
        self.attention, self.activation_checkpointing = attention, activation_checkpointing
        self.optimizer, self.learning_rate = optimizer, learning_rate
        self.schedule, self.warmup_ratio, self.gradient_clip = schedule, warmup_ratio, gradient_clip
        self.max_new_tokens, self.seed = max_new_tokens, seed
        self.model: PeftModel | None = None
        self.family: Family | None = None
        self._stop: StopTokens | None = None
        self.loaded_step = 0

    # The model ---------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Load and adapt the checkpoint. Not done in `__init__`, so that `--help` and `--print_config` are fast."""
        if self.model is not None:
            return
        self._check_precision()
        device = self.trainer.strategy.root_device if self._trainer is not None else torch.device("cpu")
        base, self.family = load_base(
            self.model_id,
            parts=self.parts,
            quantization=self.quantization,
            revision=self.revision,
            attention=self.attention,
            device=device,
        )
        self.model = adapt(base, self.family, self.parts, self.lora, seed=self.seed)
        if self.adapter is not None:
            load_adapter(self.model, Path(self.adapter))
        if self.activation_checkpointing:
            base.activation_checkpointing_enable({"use_reentrant": False})
            # The call above also makes a frozen tower's embeddings require gradients, which keeps its whole graph.
            base.disable_input_require_grads()
        self.train(self.training)

    def _check_precision(self) -> None:
        precision = self.trainer.precision if self._trainer is not None else "32-true"
        if precision not in ("32-true", "bf16-mixed"):
            raise ConfigError(
                f"trainer.precision is {precision}; use bf16-mixed, or 32-true. Parts have their own precision."
            )
        if precision == "32-true" and needs_autocast(self.parts):
            raise ConfigError(
                "Some parts are stored in bf16 while others are kept or trained in float32, which only autocast can "
                "multiply. Set trainer.precision to bf16-mixed, or every part's precision to fp32 or nf4."
            )

    @property
    def base(self) -> nn.Module:
        """The adapted model without the PEFT shell: names in it start with a part's path."""
        assert self.model is not None
        inner = self.model.get_base_model()
        assert isinstance(inner, nn.Module)
        return inner

    def train(self, mode: bool = True) -> VisionLanguageModule:
        """Training mode for the parts that are trained; frozen ones stay in evaluation mode, without dropout."""
        super().train(mode)
        if self.model is not None and self.family is not None:
            for part in self.parts.trained_as("frozen"):
                self.base.get_submodule(self.family.path(part)).eval()
            # A trained part may lie inside a frozen one's path.
            for part in PART_NAMES:
                if self.parts.of(part).training != "frozen":
                    self.base.get_submodule(self.family.path(part)).train(mode)
        return self

    def parts_table(self) -> list[PartRow]:
        """What each part holds and trains."""
        assert self.family is not None
        return parts_table(self.base, self.family, self.parts, self.learning_rate)

    @property
    def trained_steps(self) -> int:
        """Optimizer steps behind the weights; in `test` Lightning's own count starts at zero."""
        return max(self.global_step, self.loaded_step)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimizer changes."""
        return [p for p in self.parameters() if p.requires_grad]

    def hidden_states(self, batch: Batch) -> Tensor:
        """The last hidden states [B, L, D] of a training batch; the head is not run."""
        assert self.model is not None
        backbone = self.base.get_submodule("model")
        hidden: Tensor = backbone(**batch.inputs, use_cache=False).last_hidden_state
        return hidden

    @property
    def head(self) -> nn.Module:
        """The module that turns hidden states into logits."""
        assert self.family is not None
        return self.base.get_submodule(self.family.head)

    # Optimization ------------------------------------------------------------------------------------------------

    @property
    def data(self) -> ConversationDataModule:
        """The run's data module."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, ConversationDataModule)
        return datamodule

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One parameter group a part, and the schedule over all of the run's optimizer steps."""
        assert self.family is not None
        groups: Any = parameter_groups(self.base, self.family, self.parts, self.learning_rate)
        optimizer = self.optimizer(groups)
        course = schedule(optimizer, self.schedule, warmup_ratio=self.warmup_ratio, total_steps=self.data.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": course, "interval": "step"}}

    # Answering ---------------------------------------------------------------------------------------------------

    @property
    def stop_tokens(self) -> StopTokens:
        """What ends, pads and may not stand in an answer."""
        if self._stop is None:
            transcript, processor = self.data.transcript, self.data.processor
            image_token = getattr(processor, "image_token_id", None)
            self._stop = StopTokens(
                end_of_turn=transcript.end_of_turn,
                pad=int(processor.tokenizer.pad_token_id),
                forbidden=(int(image_token),) if image_token is not None else (),
            )
        return self._stop

    def answer(self, batch: PromptBatch) -> list[str]:
        """The model's answers to a batch of prompts, stripped of blanks at both ends."""
        assert self.model is not None
        tokens = generate(self.model, batch.inputs, max_new_tokens=self.max_new_tokens, stop=self.stop_tokens)
        decoded = self.data.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in decoded]

    def predictions(self, batch: PromptBatch) -> list[Prediction]:
        """Answers to a batch of prompts with what they answer, not yet judged."""
        return [
            Prediction(
                id=c.id,
                image=str(c.images[0]) if c.images else None,
                image_id=c.image_id,
                question=next((t.text.strip() for t in reversed(c.turns) if t.role == "user"), ""),
                references=c.references,
                prediction=text,
                score=None,
                groups=c.groups,
            )
            for c, text in zip(batch.conversations, self.answer(batch), strict=True)
        ]

    # Checkpoints -------------------------------------------------------------------------------------------------

    @cached_property
    def _base_identity(self) -> dict[str, object]:
        # Digests of a 7B model's files take seconds, and every checkpoint states them.
        commit = getattr(getattr(self.base, "config", None), "_commit_hash", None)
        return base_identity(self.model_id, self.revision, commit)

    def identity(self) -> dict[str, Any]:
        """What must be the same for trained weights to fit: the base, and what was put on it."""
        return {
            "base": self._base_identity,
            "parts": {part: vars(self.parts.of(part)) for part in PART_NAMES},
            "lora": dict(vars(self.lora)),
            "quantization": dict(vars(self.quantization)),
            "seed": self.seed,
        }

    def course(self) -> dict[str, Any]:
        """What must be the same for a run to go on: what the data order and the learning rates follow from."""
        train = self.data.datasets["train"]
        return {
            "conversations": len(train) if isinstance(train, ConversationDataset) else None,
            "effective_batch": self.data.effective_batch,
            "total_steps": self.data.total_steps,
            "learning_rate": self.learning_rate,
            "schedule": self.schedule,
            "warmup_ratio": self.warmup_ratio,
        }

    def fingerprint(self) -> dict[str, Any]:
        """What is written beside an adapter, so that whoever loads it can see what it belongs to."""
        return {**self.identity(), "processor": processor_identity(self.data.processor), "versions": library_versions()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trained weights only, in their optimizer's order."""
        state = trainable_state(self)
        checkpoint["state_dict"] = state
        checkpoint["trainable_names"] = list(state)
        checkpoint["identity"] = self.identity()
        checkpoint["course"] = self.course()

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Put the trained weights back, every one of them, onto the base they were trained on.

        Raises:
            ConfigError: the checkpoint belongs to another base, configuration or set of parameters.
        """
        _same(checkpoint["identity"], self.identity())
        if self.trainer.state.fn == "fit":
            _same(checkpoint["course"], self.course())
        if checkpoint["trainable_names"] != list(trainable_state(self)):
            raise ConfigError(
                "The checkpoint's parameters stand in another order, so optimizer states would be mixed up."
            )
        load_trainable_state(self, checkpoint["state_dict"])
        self.loaded_step = int(checkpoint["global_step"])


def _same(kept: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    different = [key for key, value in own.items() if kept.get(key) != value]
    if different:
        raise ConfigError(
            f"The checkpoint was made with another {', '.join(different)}: "
            + "; ".join(f"{key} was {kept.get(key)}, is {own[key]}" for key in different)
            + ". Use the config in its run directory, or start a new run from its adapter/ by model.init_args.adapter."
        )


def _check_numbers(learning_rate: float, warmup_ratio: float, gradient_clip: float | None, max_new_tokens: int) -> None:
    # YAML accepts .nan and .inf, and either would train in silence.
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ConfigError(f"model.learning_rate is {learning_rate}; it must be a finite number above zero.")
    if not 0.0 <= warmup_ratio < 1.0:
        raise ConfigError(f"model.warmup_ratio is {warmup_ratio}; it must lie in [0, 1).")
    if gradient_clip is not None and not (math.isfinite(gradient_clip) and gradient_clip > 0):
        raise ConfigError(f"model.gradient_clip is {gradient_clip}; it must be a finite number above zero, or null.")
    if max_new_tokens < 1:
        raise ConfigError(f"model.max_new_tokens is {max_new_tokens}; it must be at least 1.")
