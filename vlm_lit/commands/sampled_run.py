"""Run of `predict` that samples: its model, data and trainer, with nothing written but the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import lightning
import yaml
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningCLI

from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.data.datamodule import ConversationDataModule
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import WEIGHTS, file_sha256
from vlm_lit.models.sampling import SamplingSettings
from vlm_lit.training.answered import AnsweredModule
from vlm_lit.training.callbacks.feature_cache import FeatureCache
from vlm_lit.training.callbacks.progress import progress_bar
from vlm_lit.training.callbacks.sampled_answers import SampledAnswers
from vlm_lit.training.checkpoint_io import DurableCheckpointIO
from vlm_lit.training.identity import leaves
from vlm_lit.training.run_settings import number_settings

_OF_ANSWERS: Final = (
    "model.init_args.model_id", "model.init_args.revision", "model.init_args.parts", "model.init_args.quantization",
    "model.init_args.lora", "model.init_args.attention", "model.init_args.max_new_tokens", "data.init_args.prompt",
    "data.init_args.system", "data.init_args.max_length", "data.init_args.over_length", "data.init_args.image_backend",
    "data.init_args.image_processor", "data.init_args.pad_to_square", "trainer.precision",
)  # fmt: skip
"""Settings that an answer follows from, each with all that is below it; learning rates aside."""


class SampledRun(VlmLitCLI):
    """The model, data and trainer of a `predict` that answers each question several times.

    Args:
        arguments: those of `predict`.
        split: whose questions are asked.
    """

    writes = False

    def __init__(self, arguments: Sequence[str], split: str) -> None:
        self.split = split
        super().__init__("predict", arguments)

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:  # noqa: ANN401 - Lightning's signature
        """A trainer that keeps no results of its own."""
        asked = self._get(self.config_init, "trainer", default={})
        given = [one for one in asked.get("callbacks") or [] if isinstance(one, ProgressBar)]
        if not given and asked.get("enable_progress_bar") is not False:
            given.append(progress_bar())
        ours: dict[str, Any] = {"callbacks": [FeatureCache(), *given], "logger": False}
        plugins = [*(asked.get("plugins") or []), DurableCheckpointIO()]
        return LightningCLI.instantiate_trainer(self, **ours, plugins=plugins, **kwargs)

    def open_data(self) -> None:
        """Open the questions.

        Raises:
            ConfigError: a kind of model or data that answers are not sampled from, or no questions.
        """
        data, module = self.datamodule, self.model
        if not isinstance(module, AnsweredModule) or not isinstance(data, ConversationDataModule):
            raise ConfigError(
                "pairs samples what a model says, token by token; this config asks for "
                f"{type(module).__name__} on {type(data).__name__}."
            )
        if module.answer_from is not None:
            raise ConfigError("model.answer_from chooses answers from a list. Set it to null: pairs are sampled.")
        if data.blind is not None:
            raise ConfigError(f"data.blind is {data.blind}, and answers of pairs are about their own images.")
        if data.sources[self.split] is None:
            there = [name for name, source in data.sources.items() if source is not None]
            also = f", or ask those of another split: --split {there[0]}" if there else ""
            raise ConfigError(f"There is nothing to ask: set data.init_args.{self.split} to a file or a hub id{also}.")
        data.sources["predict"] = data.sources[self.split]
        super().open_data()

    def _run_subcommand(self, subcommand: str) -> None:
        self.open_data()

    @property
    def questions(self) -> ConversationDataModule:
        """The data module."""
        assert isinstance(self.datamodule, ConversationDataModule)
        return self.datamodule

    def sampled_with(self, sampling: SamplingSettings) -> dict[str, object]:
        """All that answers follow from besides their questions, by the names of the settings."""
        config = yaml.safe_load(self._shown())
        kept = {
            name: value
            for name, value in number_settings(config, "predict").items()
            if any(name == other or name.startswith(f"{other}.") for other in _OF_ANSWERS)
            and not name.endswith(".learning_rate")
        }
        return {**kept, **self._held_to(), **leaves(vars(sampling)), "weights": self._weights(config)}

    def _held_to(self) -> dict[str, str]:
        """The schema that answers are held to, by its bytes; an earlier version named none."""
        file = getattr(self.model, "answer_schema", None)
        return {} if file is None else {"model.init_args.answer_schema": file_sha256(Path(file))}

    def _weights(self, config: Mapping[str, Any]) -> str | None:
        """What names the trained weights: a checkpoint's bytes, or an adapter's; None for the base as it is."""
        adapter = getattr(self.model, "adapter", None)
        if config.get("ckpt_path") is not None:
            return file_sha256(Path(config["ckpt_path"]))
        return None if adapter is None else file_sha256(Path(adapter) / WEIGHTS)

    def sample(self, sampling: SamplingSettings, answers: SampledAnswers) -> None:
        """Answer all that the data module asks."""
        assert isinstance(self.model, AnsweredModule)
        self.model.sampling = sampling
        self.trainer.callbacks.append(answers)  # type: ignore[attr-defined]
        self.trainer.predict(
            self.model,
            datamodule=self.questions,
            ckpt_path=self.config[self.verb]["ckpt_path"],
            return_predictions=False,
        )
