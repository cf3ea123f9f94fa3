"""Settings that change a run's numbers: all of a config but those named here, each with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from vlm_lit.errors import ConfigError
from vlm_lit.training.identity import leaves, listed_changes

# Dotted names as they are typed, each with all that is below it.
_HARMLESS: Final = (
    # Where a run writes and starts from, and what it does with what lies there.
    "run_dir",
    "ckpt_path",
    "weights_only",
    "overwrite",
    "keep_best",
    "keep_best_mode",
    # What is written about a run, shown of it and measured on it.
    "trainer.logger",
    "trainer.log_every_n_steps",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.enable_checkpointing",
    "trainer.profiler",
    "trainer.detect_anomaly",
    "trainer.default_root_dir",
    # How long it is: the course is checked by itself, for a run may be made longer.
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.min_epochs",
    "trainer.min_steps",
    # When it validates; a validation changes nothing of the training.
    "trainer.val_check_interval",
    "trainer.check_val_every_n_epoch",
    "trainer.num_sanity_val_steps",
    "data.init_args.validate_by",
    "data.init_args.judged_turns",
    # N ranks compute what one rank computes, and so do micro-batches of any size (equalities 4 and 5); with dropout,
    # which draws others, word of it is given.
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "data.init_args.micro_batch",
    "data.init_args.micro_tokens",
    # Compiled layers compute what others compute.
    "model.init_args.compile_layers",
    # Recomputed activations and stored features are the ones that were not kept (equality 3).
    "model.init_args.activation_checkpointing",
    "data.init_args.feature_cache",
    "data.init_args.feature_cache_gb",
    # A stored reference says what the live one does (equality 9).
    "model.init_args.reference_store",
    # Prompts answered together are answered as one by one (equality 7).
    "data.init_args.eval_batch",
    # How data is read and looked at, not what is read.
    "data.init_args.num_workers",
    "data.init_args.check_images",
    # What was left out is compared by itself.
    "data.init_args.bad_records",
    "data.init_args.bad_records_most",
)
_UNREAD_IN_FIT: Final = ("data.init_args.test", "data.init_args.predict")
_CALLBACKS: Final = "trainer.callbacks"
# Callbacks that look at a run and leave it as it is; another's settings count.
_LOOKERS: Final = re.compile(
    r"vlm_lit\.training\.callbacks\..*|lightning\.pytorch\.callbacks\.(.*\.)?(ModelCheckpoint|LearningRateMonitor"
    r"|DeviceStatsMonitor|ThroughputMonitor|ModelSummary|RichModelSummary|TQDMProgressBar|RichProgressBar|Timer)"
)
# Settings that came later, each with the value that says what was so before: checkpoints of then lack them.
_LATER: Final[tuple[tuple[re.Pattern[str], object], ...]] = (
    (re.compile(r"model\.init_args\.sampling"), None),
    (re.compile(r"model\.init_args\.answer_schema"), None),
    (re.compile(r"model\.init_args\.parts\.\w+\.last_layers"), None),
    (re.compile(r"model\.init_args\.parts\.embeddings\.precision"), "bf16"),
    (re.compile(r"model\.init_args\.parts\.embeddings\.training"), "frozen"),
    (re.compile(r"model\.init_args\.parts\.embeddings\.learning_rate"), None),
    (re.compile(r"data\.init_args\.corrupt"), None),
    (re.compile(r"model\.init_args\.lora\.scaling"), "alpha_over_rank"),
    (re.compile(r"model\.init_args\.lora\.start"), "random"),
    (re.compile(r"model\.init_args\.lora\.dora"), False),
    (re.compile(r"model\.init_args\.lora\.b_lr_ratio"), 1.0),
    (re.compile(r"model\.init_args\.lora\.(ranks|alphas)"), None),
)
_SOURCE_PATH: Final = re.compile(r"data\.init_args\.\w+(\.images_from)?\.path")


def number_settings(config: Mapping[str, Any], verb: str = "fit") -> dict[str, Any]:
    """The settings of a resolved config that change a run's numbers, by the dotted names they are typed with.

    A data file's path is none of them: its contents are compared instead.
    """
    harmless = (*_HARMLESS, *(_UNREAD_IN_FIT if verb == "fit" else ()))
    found = {
        name: _shortest(value) if _is_class(name) else value
        for name, value in leaves(config).items()
        if not any(name == other or name.startswith(f"{other}.") for other in (*harmless, _CALLBACKS))
        and not (_SOURCE_PATH.fullmatch(name) and Path(str(value)).exists() and verb == "fit")
        and not any(pattern.fullmatch(name) and value == before for pattern, before in _LATER)
    }
    trainer = config.get("trainer")
    callbacks = trainer.get("callbacks") if isinstance(trainer, Mapping) else None
    return found | dict(_changing(callbacks))


def _shortest(class_path: Any) -> Any:  # noqa: ANN401 - a value of a config
    """A class of ours by its name alone: a config may name it by the module that it is in, or by the package."""
    path = str(class_path)
    return f"vlm_lit.{path.rpartition('.')[2]}" if path.startswith("vlm_lit.") else class_path


def _changing(callbacks: object) -> Iterator[tuple[str, Any]]:
    for one in callbacks if isinstance(callbacks, list) else [callbacks]:
        if not isinstance(one, Mapping) or "class_path" not in one:
            continue
        path = str(one["class_path"])
        if not _LOOKERS.fullmatch(path):
            yield from leaves(one.get("init_args") or True, f"{_CALLBACKS}.{path.rpartition('.')[2]}").items()


def changed(kept: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """The names of the settings that differ, in the config's order."""
    names = [*own, *(name for name in kept if name not in own)]
    different = [name for name in names if name not in kept or name not in own or kept[name] != own[name]]
    # Another class has other parameters, which say nothing more.
    classes = tuple(f"{name.removesuffix('.class_path')}.init_args." for name in different if _is_class(name))
    return [name for name in different if not name.startswith(classes)]


def _is_class(name: str) -> bool:
    return name.endswith(".class_path")


def check_settings(kept: Mapping[str, Any], own: Mapping[str, Any], checkpoint: Path) -> None:
    """Compare the settings of a run that goes on with those that its checkpoint was made with.

    Raises:
        ConfigError: one differs that changes numbers; names each, as it was and as it is.
    """
    different = changed(kept, own)
    if different:
        raise ConfigError(
            f"{checkpoint} was made with another {listed_changes(different, kept, own)}. A run goes on with the "
            "settings it began with: take these back, or start a new run in another --run_dir."
        )
