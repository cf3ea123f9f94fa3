"""Module of an adapted model: loaded, given its trained parts and optimizer, and kept in checkpoints."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch import Callback
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from vlm_lit.data.record_datamodule import RecordDataModule
from vlm_lit.data.run_length import length_of
from vlm_lit.errors import ConfigError, check_seed
from vlm_lit.models.adapter_state import load_adapter, trainable_state
from vlm_lit.models.adapters import attach_adapters, drop_originals, recompute_activations
from vlm_lit.models.compiled_layers import compile_layers
from vlm_lit.models.families import LAYERED, Family, LayeredPart, Task, family_of
from vlm_lit.models.frozen_start import start_state
from vlm_lit.models.loading import load_base, load_config, original_weights
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.mixed_precision import check_precision
from vlm_lit.models.modes import set_modes
from vlm_lit.models.parts import PartRow, PartsSettings
from vlm_lit.models.parts import parts_table as rows_of_parts
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.models.shortcuts import shortcuts_of
from vlm_lit.models.starts import check_start, start_at_loss, start_at_principal
from vlm_lit.schema import Shortcuts
from vlm_lit.settings import as_settings
from vlm_lit.training.callbacks.brought import brought
from vlm_lit.training.hyperparameters import arguments
from vlm_lit.training.optimization import (
    DEFAULT_RATE,
    DEFAULT_WARMUP,
    Decay,
    Schedule,
    check_numbers,
    check_used,
    check_warmup,
    learning_rates,
    parameter_groups,
)
from vlm_lit.training.optimizer_choice import as_optimizer, check_options, check_rate, made_optimizer
from vlm_lit.training.ranks import Ranks, ranks_of
from vlm_lit.training.restoring import check_optimizer
from vlm_lit.training.row_sharing import check_sharing


class VisionLanguageModule(LightningModule):
    """A vision-language model whose parts are each stored, trained and stepped as asked.

    Args:
        model_id: local folder or hub id of the checkpoint to start from.
        revision: branch, tag or commit on the hub.
        parts: per part its precision (nf4, fp4, int8, bf16, fp32), training (frozen, lora, full) and learning rate.
        quantization: how nf4, fp4 and int8 parts are stored.
        lora: rank, scale, start, dropout and layers of the low-rank updates.
        adapter: folder of a saved adapter of this base, and of this `lora`, to start from; null starts from the base.
        attention: transformers' attention implementation; null takes its default.
        activation_checkpointing: recompute activations in the backward pass instead of keeping them, in all trained
            layers; or in those of the parts that are named, of vision_tower and language_model.
        compile_layers: whether torch.compile compiles the decoder layers for training.
        optimizer: class of the optimizer; learning rates come from `parts` and `learning_rate`.
        learning_rate: peak learning rate of parts that state none.
        schedule: cosine, linear, polynomial, constant or constant_with_warmup.
        warmup_ratio: share of the run's steps over which the learning rate rises from zero; `constant` has none.
        gradient_clip: largest norm of the gradient; null does not clip.
        seed: what the LoRA matrices and dropout follow from; linked to seed_everything.
    """

    automatic_optimization: bool
    read_from = "ConversationDataModule"
    """The data module that makes this kind of module's batches."""
    task: Task = "generate"
    """How the checkpoint must answer."""
    decay: Decay = "all"
    """What the optimizer's weight decay is for."""
    start_is_kept = False
    """Whether a checkpoint is to be loaded, which brings the start of the low-rank updates."""

    def __init__(
        self,
        model_id: str,
        revision: str | None = None,
        parts: PartsSettings = PartsSettings(),  # noqa: B008 - frozen
        quantization: QuantizationSettings = QuantizationSettings(),  # noqa: B008 - frozen
        lora: LoraSettings = LoraSettings(),  # noqa: B008 - frozen
        adapter: str | None = None,
        attention: str | None = None,
        activation_checkpointing: bool | list[LayeredPart] = True,
        compile_layers: bool = False,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, weight_decay=0.0),
        learning_rate: float = DEFAULT_RATE,
        schedule: Schedule = "cosine",
        warmup_ratio: float = DEFAULT_WARMUP,
        gradient_clip: float | None = 1.0,
        seed: int = 42,
    ) -> None:
        super().__init__()
        self._arguments = arguments(inspect.currentframe())
        parts = as_settings(PartsSettings, parts, "model.parts")
        quantization = as_settings(QuantizationSettings, quantization, "model.quantization")
        lora = as_settings(LoraSettings, lora, "model.lora")
        check_numbers(learning_rate, warmup_ratio, gradient_clip)
        check_warmup(schedule, warmup_ratio)
        check_seed(seed, "model.seed")
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold trained weights only; `on_load_checkpoint` is the strict one
        self.model_id, self.revision = model_id, revision
        self.parts, self.quantization, self.lora, self.adapter = parts, quantization, lora, adapter
        self.attention, self.activation_checkpointing = attention, activation_checkpointing
        self.compile_layers = compile_layers
        self.optimizer, self.learning_rate = as_optimizer(optimizer), learning_rate
        check_options(self.optimizer)
        check_rate(self.optimizer, learning_rate, written=optimizer)
        check_used(learning_rate, parts)
        check_start(lora, parts)
        self.schedule, self.warmup_ratio, self.gradient_clip = schedule, warmup_ratio, gradient_clip
        self.seed = seed
        self.model: PeftModel | None = None
        self.family: Family | None = None
        self.loaded_step = 0
        self._resumed: Mapping[str, Any] | None = None

    # The model ---------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Load and adapt the checkpoint. Not done in `__init__`, so that `--help` and `--print_config` are fast."""
        if self._trainer is not None:
            self.check_precision()
        if self.model is None:
            ranks = self.ranks
            ranks.check(self.parts)
            # Lightning calls this with the GPU as the device of every new tensor, so numbers would be drawn there.
            with torch.device("cpu"):
                self._load()
            assert self.family is not None
            if self.compile_layers:
                compile_layers(self.base, self.family)
            ranks.hold(self.base, self.family)
            check_sharing(self.base, self.family, getattr(self._trainer, "datamodule", None))

    def _load(self) -> None:
        device = self.trainer.strategy.root_device if self._trainer is not None else torch.device("cpu")
        self.model = self.adopt(*self.read_base(device))
        if self.adapter is None and not self.start_is_kept:
            self.start_adapters()
        if self.adapter is not None and self.needs_adapter:
            self.take_adapter(Path(self.adapter))

    def read_base(self, device: torch.device) -> tuple[PreTrainedModel, Family]:
        """The checkpoint, each part in its precision, and its facts; nothing is put on it yet."""
        return load_base(
            self.model_id,
            parts=self.parts,
            quantization=self.quantization,
            revision=self.revision,
            attention=self.attention,
            device=device,
        )

    def take_adapter(self, adapter: Path) -> None:
        """Put the saved adapter in a folder on the model."""
        assert self.model is not None
        load_adapter(self.model, adapter)

    def start_adapters(self) -> None:
        """Set the start of the low-rank updates that is computed; a saved adapter and a checkpoint bring their own.

        Raises:
            ConfigError: this way to train has no inputs for it, or a rank is too large.
        """
        assert self.model is not None
        if self.lora.start == "eva" and getattr(self._trainer, "state", None) is not None:
            self.start_at_inputs()
        elif self.lora.start == "pissa":
            start_at_principal(self.model)
        elif self.lora.start == "loftq":
            start_at_loss(self.model, original_weights(self.model_id, self.revision, self.parts, self.task))
        if self.lora.start != "random":
            self.ranks.take_first([*trainable_state(self.model).values(), *start_state(self.model).values()])

    def start_at_inputs(self) -> None:
        """Set the start that follows from the inputs of layers.

        Raises:
            ConfigError: this way to train has none.
        """
        raise ConfigError(
            f"lora.start is eva, which looks at what a model reads in conversations, and {type(self).__name__} reads "
            "none. Set lora.start to random or pissa."
        )

    def adopt(self, base: PreTrainedModel, family: Family) -> PeftModel:
        """Put on a base what this run trains, and make it recompute activations if asked to."""
        self.family, self.model = family, attach_adapters(base, family, self.parts, self.lora, seed=self.seed)
        if not self.needs_originals:
            drop_originals(self.model)
        if self.activation_checkpointing:
            recompute_activations(base, family, self.recomputed)
        self.train(self.training)
        return self.model

    def shortcuts(self) -> Shortcuts:
        """What a run with this checkpoint may do the short way; its weights need not be loaded."""
        config = load_config(self.model_id, self.revision)
        return shortcuts_of(config, family_of(config.model_type), attention=self.attention)

    def check_precision(self) -> None:
        """Refuse a precision of the trainer that the parts' precisions cannot be multiplied in.

        Raises:
            ConfigError: naming the settings to change.
        """
        family = family_of(load_config(self.model_id, self.revision).model_type)
        check_precision(str(self.trainer.precision) if self._trainer is not None else "32-true", self.parts, family)

    @property
    def needs_originals(self) -> bool:
        """Whether something asks for fully trained modules as they were before training."""
        return False

    @property
    def needs_adapter(self) -> bool:
        """Whether the saved adapter to start from is read; a checkpoint to be loaded holds every weight of it."""
        return not self.start_is_kept

    @property
    def recomputed(self) -> list[LayeredPart]:
        """The parts whose activations are recomputed in the backward pass, where they train."""
        asked = self.activation_checkpointing
        return asked if isinstance(asked, list) else list(LAYERED) if asked else []

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
        if self.model is None or self.family is None:
            return self
        set_modes(self.base, self.family, self.parts, mode)
        return self

    def parts_table(self) -> list[PartRow]:
        """What each part holds and trains."""
        assert self.family is not None
        return rows_of_parts(self.base, self.family, self.parts, self.learning_rate)

    @property
    def trained_steps(self) -> int:
        """Optimizer steps behind the weights; in `test` Lightning's own count starts at zero."""
        return max(self.global_step, self.loaded_step)

    @property
    def ranks(self) -> Ranks:
        """The processes of this run."""
        return ranks_of(self._trainer)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimizer changes."""
        return [p for p in self.parameters() if p.requires_grad]

    # Optimization ------------------------------------------------------------------------------------------------

    @property
    def data(self) -> RecordDataModule[Any]:
        """The run's data module.

        Raises:
            ConfigError: the trainer was given loaders, or another data module.
        """
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(datamodule, RecordDataModule):
            raise ConfigError(
                f"{type(self).__name__} reads its batches from a {self.read_from}, and the trainer has none. "
                f"Give it one: trainer.fit(module, datamodule={self.read_from}(...))."
            )
        return datamodule

    def configure_callbacks(self) -> list[Callback]:
        """What a run needs that its trainer lacks; the command line's has it all. See `callbacks/brought.py`."""
        return brought(self.trainer)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One parameter group a part, and the schedule over all of the run's optimizer steps."""
        assert self.family is not None
        if length_of(self.trainer) is None:
            _ = self.data  # where the trainer was given loaders, that is what is wrong
            raise ConfigError(
                f"{type(self).__name__}.configure_callbacks leaves out what counts the epochs. Let it "
                "return [*super().configure_callbacks(), ...]."
            )
        groups: Any = parameter_groups(
            self.base, self.family, self.parts, self.learning_rate, decay=self.decay, b_lr_ratio=self.lora.b_lr_ratio
        )
        optimizer = made_optimizer(self.optimizer, groups)
        if self._resumed is not None:
            check_optimizer(self._resumed, optimizer)
            self._resumed = None
        steps = self.data.total_steps
        rates = learning_rates(optimizer, self.schedule, warmup_ratio=self.warmup_ratio, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def loss(self, batch: Any) -> Tensor:  # noqa: ANN401 - each way to train has its own kind of micro-batch
        """The loss of a micro-batch, summed over what it is counted in (a scalar); each way to train has its own."""
        raise NotImplementedError(f"{type(self).__name__} has no loss. Let it define loss(batch), a sum.")
