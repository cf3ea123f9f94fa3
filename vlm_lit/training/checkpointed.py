"""Module that is kept: what stands in its checkpoints and beside its adapter, and which checkpoints it goes on from."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.data.checkpoint.processors import processor_identity
from vlm_lit.models.adapter_state import file_sha256, load_trainable_state
from vlm_lit.models.finite import check_weights
from vlm_lit.models.frozen_start import load_start, start_state
from vlm_lit.training.adapter_start import check_origin, check_rounded_base
from vlm_lit.training.hyperparameters import plain
from vlm_lit.training.identity import base_named, course_of, identity_of, library_versions, other_ranks
from vlm_lit.training.module import VisionLanguageModule
from vlm_lit.training.optimizer_choice import stored
from vlm_lit.training.restoring import Fitting, base_config, check_fits, class_of
from vlm_lit.training.surroundings import code_digest, machine


class CheckpointedModule(VisionLanguageModule):
    """A module whose checkpoints hold what it trains, and what they belong to."""

    kept_course: Mapping[str, Any] | None = None
    """The course of the checkpoint that this run goes on from."""

    @cached_property
    def base_name(self) -> dict[str, Any]:
        """What names the base. Digests of a 7B model's files take seconds: made once."""
        return base_named(self.base.config, self.model_id, self.revision)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be the same for trained weights to fit."""
        return identity_of(
            self.base,
            self.base_name,
            parts=self.parts,
            lora=self.lora,
            quantization=self.quantization,
            seed=self.seed,
        )

    def take_adapter(self, adapter: Path) -> None:
        """Put the saved adapter in a folder on the model, once it is known to belong to this base.

        Raises:
            ConfigError: it belongs to another base, or to other 4-bit weights of it, or does not fit the model.
        """
        processor = None if self._trainer is None else processor_identity(self.data.processor)
        check_origin(adapter, self.model_id, self.revision, processor, self._digest)
        check_rounded_base(adapter, self.parts, self.lora, self.quantization)
        super().take_adapter(adapter)

    def _digest(self, file: Path) -> str:
        digests: dict[str, str] = self.base_name["weights_sha256"]
        return digests.get(file.name) or file_sha256(file)  # of a hub's base they are not in its name

    def fingerprint(self) -> dict[str, Any]:
        """What is written beside an adapter, so that whoever loads it can see what it belongs to."""
        return {
            **self.identity,
            "global_step": self.trained_steps,
            "processor": processor_identity(self.data.processor),
            "versions": library_versions(),
            "machine": machine(self.device),
            "code_sha256": code_digest(),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trained weights only, in their optimizer's order.

        Raises:
            VlmLitError: they are no numbers, as after a last step that was too large.
        """
        state = self.ranks.trained_state(self)
        check_weights(state, self.trained_steps)
        checkpoint["state_dict"] = state
        checkpoint["trainable_names"] = list(state)
        if self.model is not None and (start := start_state(self.model)):
            checkpoint["lora_start"] = {name: matrix.detach() for name, matrix in start.items()}
        checkpoint["identity"] = self.identity
        checkpoint["base_config"] = base_config(self.model_id)
        if self._trainer is not None and self.trainer.optimizers:
            checkpoint["optimizer"] = class_of(self.trainer.optimizers[0])
        checkpoint["course"] = self._course()
        checkpoint["processor"] = processor_identity(self.data.processor)
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = self._hyperparameters()

    def _course(self) -> dict[str, Any]:
        return course_of(
            self.data,
            {name: getattr(self, name) for name in ("learning_rate", "schedule", "warmup_ratio", "gradient_clip")},
            self._hyperparameters(),
            precision=str(self.trainer.precision),
            attention=getattr(self.base.config, "_attn_implementation", None),
            world_size=self.ranks.world,
        )

    def _hyperparameters(self) -> dict[str, Any]:
        """The constructor's arguments, for `load_from_checkpoint`."""
        given = {**self._arguments, "learning_rate": self.learning_rate}
        default = inspect.signature(VisionLanguageModule).parameters["optimizer"].default
        optimizer = given.pop("optimizer", default)
        return plain(given) if optimizer is default else {**plain(given), "optimizer": stored(self.optimizer)}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401 - torch's own
        """As torch does; frozen weights, which no checkpoint holds, are not missing. See `on_load_checkpoint`."""
        found = super().load_state_dict(state_dict, strict=strict, assign=assign)
        return type(found)([], found.unexpected_keys)

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Put the trained weights back, every one of them, onto the base they were trained on.

        Raises:
            ConfigError: the checkpoint belongs to another base, configuration or set of parameters.
        """
        resumes = self._trainer is not None and self.trainer.state.fn == "fit"
        own = Fitting(
            identity=self.identity,
            base_config=base_config(self.model_id),
            names=list(self.ranks.trained_state(self)),
            processor=None if self._trainer is None else processor_identity(self.data.processor),
            course=self._course() if resumes else None,
            read_by=type(self.data).__qualname__ if resumes else None,
        )
        check_fits(checkpoint, own)
        if resumes and (words := other_ranks(checkpoint["course"], self.ranks.world)) is not None:
            rank_zero_info(words)
        self._resumed = checkpoint if resumes else None
        self.kept_course = checkpoint["course"] if resumes else None
        load_trainable_state(self, checkpoint["state_dict"])
        if self.model is not None:
            load_start(self.model, checkpoint.get("lora_start", {}))
        self.loaded_step = int(checkpoint["global_step"])
