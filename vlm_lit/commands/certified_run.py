"""Run that a certificate is made of, or checked against: its data, processor and files opened, its steps done again."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import lightning
import torch
import yaml
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ProgressBar
from lightning.pytorch.cli import LightningCLI

from vlm_lit.commands.early_check import check
from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.commands.process_rules import refusing
from vlm_lit.data.checkpoint.processors import processor_identity, tokenizer_sha256
from vlm_lit.data.record_datamodule import RecordDataModule
from vlm_lit.data.records.record_dataset import RecordDataset
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import FINGERPRINT, WEIGHTS, base_identity, file_sha256
from vlm_lit.models.loading import load_config
from vlm_lit.studies.run_files.learning_curves import LOSS, read_curves
from vlm_lit.training.callbacks.step_checkpoint import FOLDER, checkpoints
from vlm_lit.training.certifying.certificate import VERSION, Certificate, SplitDigests
from vlm_lit.training.certifying.item_digests import split_digests
from vlm_lit.training.certifying.replaying import RelocatedCheckpointIO, ReplayedSteps
from vlm_lit.training.certifying.weight_digests import weight_digests
from vlm_lit.training.checkpoint_io import sound
from vlm_lit.training.identity import check_data, data_files, library_versions
from vlm_lit.training.restoring import base_config
from vlm_lit.training.run_settings import changed, number_settings
from vlm_lit.training.surroundings import code_digest, code_files, machine

_PLACES: Final = ("path", "annotations", "image_root", "file", "model_id", "adapter", "reference_store")
"""Settings that say where something lies; what lies there is compared by its contents."""


def portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the places of files on this machine."""
    return {name: value for name, value in settings.items() if not _is_place(name, value)}


def _is_place(name: str, value: object) -> bool:
    if name.rpartition(".")[2] not in _PLACES:
        return False
    return all(isinstance(one, str) and Path(one).exists() for one in (value if isinstance(value, list) else [value]))


class CertifiedRun(VlmLitCLI):
    """The model, data and trainer of a `fit` whose steps may be done again. It writes into a folder of its own."""

    writes = False

    def __init__(self, arguments: Sequence[str], scratch: Path) -> None:
        self.scratch = scratch
        super().__init__("fit", [*arguments, "--ckpt_path=null"])

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:  # noqa: ANN401 - Lightning's signature
        """A trainer of one process that keeps nothing, logs nothing and does not validate."""
        asked = self._get(self.config_init, "trainer", default={})
        # What looks at validations has nothing to look at; whatever else a config brings may change the steps.
        given = [c for c in asked.get("callbacks") or [] if not _only_looks(c)]
        self.relocated = RelocatedCheckpointIO("")
        return LightningCLI.instantiate_trainer(
            self,
            callbacks=given,
            logger=False,
            default_root_dir=str(self.scratch),
            plugins=[*(asked.get("plugins") or []), self.relocated],
            limit_val_batches=0,
            devices=1,
            num_nodes=1,
            strategy="auto",
            accelerator=_accelerator(asked.get("accelerator", "auto")),
            min_epochs=None,
            min_steps=None,
            max_time=None,
            enable_progress_bar=False,
            enable_model_summary=False,
            **kwargs,
        )

    def _run_subcommand(self, subcommand: str) -> None:
        """Open what is hashed.

        Raises:
            ConfigError: there is nothing to hash by its records.
        """
        self.open_data()
        data = self.datamodule
        if not isinstance(data, RecordDataModule):
            raise ConfigError(f"certify reads records; {type(data).__name__} has none that it knows.")
        for split, dataset in data.datasets.items():
            if not isinstance(dataset, RecordDataset):
                raise ConfigError(f"data.{split} is streamed, so nobody knows its records ahead: no certificate.")
        data.trainer = self.trainer

    @property
    def data(self) -> RecordDataModule[Any]:
        """The data module."""
        assert isinstance(self.datamodule, RecordDataModule)
        return self.datamodule

    # What is here ------------------------------------------------------------------------------------------------

    def certificate(self, run: Path) -> Certificate:
        """What a certificate of this run says, made of what is here.

        Args:
            run: the folder of its checkpoints, adapter and curves, which need not be there.
        """
        processor = self.data.processor
        found = read_curves(run) if run.is_dir() else {}
        losses = dict(zip(found[LOSS].steps, found[LOSS].values, strict=True)) if LOSS in found else {}
        return Certificate(
            version=VERSION,
            config=self._shown(),
            settings=portable(self.numbers),
            course=json.loads(json.dumps(self.data.course())),
            train=self._split("train") or _none(),
            val=self._split("val"),
            base=self._base(),
            processor={**processor_identity(processor), "tokenizer_sha256": _tokenizer(processor)},
            code={"sha256": code_digest(), **code_files()},
            versions=library_versions(),
            machine={**machine(self.trainer.strategy.root_device), "processes": 1},
            weights=weight_digests(self.kept_checkpoints(run), run / "adapter"),
            losses={str(step): float(loss) for step, loss in losses.items()},
        )

    @property
    def numbers(self) -> dict[str, Any]:
        """The settings that change the run's numbers."""
        return number_settings(yaml.safe_load(self._shown()))

    def kept_checkpoints(self, run: Path) -> dict[int, dict[str, Any]]:
        """The contents of a run's checkpoints that are of a run as long as this one, by step."""
        contents = [sound(path, resumes=True) for path in checkpoints(run / FOLDER)]
        total = self.data.course()["total_steps"]
        return {
            int(content["global_step"]): content
            for content in contents
            if (content.get("course") or {}).get("total_steps", total) == total and "trainable_names" in content
        }

    def _split(self, split: str) -> SplitDigests | None:
        dataset = self.data.datasets.get(split)
        if dataset is None:
            return None
        assert isinstance(dataset, RecordDataset)
        return split_digests(dataset[i] for i in range(len(dataset)))

    def _base(self) -> dict[str, object]:
        data, adapter = self.data, getattr(self.model, "adapter", None)
        commit = getattr(load_config(data.model_id, data.revision), "_commit_hash", None)
        identity = base_identity(data.model_id, data.revision, commit)
        if Path(data.model_id).is_dir():
            del identity["model_id"]
        begun = None if adapter is None else file_sha256(Path(adapter) / WEIGHTS)
        return {**identity, "config": base_config(data.model_id), "adapter_sha256": begun}

    # The same again ----------------------------------------------------------------------------------------------

    def replay(self, start: Path | None, until: int, weights_at: Sequence[int]) -> tuple[ReplayedSteps, str | None]:
        """Do steps of the run again; what was noted of them, and the digest of the adapter behind the last.

        Args:
            start: the checkpoint they begin from; None for the start of the run.
            until: the last of them.
            weights_at: steps after which the weights are noted.
        """
        self.relocated.model_id = self.data.model_id
        noted = ReplayedSteps(until, weights_at)
        self.trainer.callbacks.append(noted)  # type: ignore[attr-defined]
        with _without_words():  # of an adapter that is written to a folder of this command's own
            self.trainer.fit(self.model, datamodule=self.data, ckpt_path=None if start is None else str(start))
        adapter = self.scratch / "adapter" / WEIGHTS
        return noted, file_sha256(adapter) if adapter.is_file() else None


@contextmanager
def _without_words() -> Iterator[None]:
    said = logging.getLogger("lightning.pytorch")
    level = said.level
    said.setLevel(logging.WARNING)
    try:
        yield
    finally:
        said.setLevel(level)


def _only_looks(callback: Callback) -> bool:
    ours = type(callback).__module__.startswith("vlm_lit.training.callbacks.")
    return ours or isinstance(callback, (EarlyStopping, Checkpoint, ProgressBar))


def _none() -> SplitDigests:
    return SplitDigests(ids=[], words=[], pictures_of=[], pictures=[], names=[])


def _tokenizer(processor: object) -> str | None:
    tokenizer = getattr(processor, "tokenizer", None)
    return None if tokenizer is None else tokenizer_sha256(tokenizer)


def _accelerator(asked: object) -> object:
    """The accelerator that a config names; another where that is not here."""
    name = {"gpu": "cuda"}.get(str(asked), str(asked))
    known = AcceleratorRegistry.available_accelerators()
    return "auto" if name in known and not AcceleratorRegistry[name]["accelerator"].is_available() else asked


# Making a certificate ------------------------------------------------------------------------------------------------


def certified(run: Path, more: Sequence[str]) -> Certificate:
    """The certificate of a run.

    Args:
        run: its directory.
        more: options of `fit` that say where its data and base lie now.

    Raises:
        ConfigError: there is no run, or what it was made with is not what is here.
    """
    config = run / "config.yaml"
    if not config.is_file():
        raise ConfigError(f"{run} holds no config.yaml, which fit writes. Name the directory of a run.")
    arguments = [f"--config={config}", *more]
    check("fit", arguments)
    with tempfile.TemporaryDirectory() as scratch, refusing():
        opened = CertifiedRun(arguments, Path(scratch))
        found = opened.certificate(run)
        newest = [content for _, content in sorted(opened.kept_checkpoints(run).items())][-1:]
        about = run / "adapter" / FINGERPRINT
        made = json.loads(about.read_text(encoding="utf-8")) if about.is_file() else {}
        if not newest and not made:
            raise ConfigError(f"{run} holds neither a checkpoint nor an adapter of this config: nothing to certify.")
        for content in newest:
            _check_config(config, content, opened.numbers)
            check_data(content.get("course") or {}, data_files(opened.data.sources))
        _check_base(run, made or newest[-1]["identity"], found)
    processes = [content["course"].get("world_size") for content in newest if content.get("course")]
    return replace(found, **_surroundings(made, processes[0] if processes else None))


def _surroundings(made: Mapping[str, Any], processes: int | None) -> dict[str, Any]:
    """What made the run, as its adapter's fingerprint says; empty where it does not."""
    known = made.get("code_sha256")
    code = {} if known is None else {"sha256": known}
    if known == code_digest():
        code |= code_files()
    machine_then = made.get("machine") or {}
    if machine_then:
        machine_then = {**machine_then, "processes": processes or 1}
    return {"code": code, "versions": made.get("versions") or {}, "machine": machine_then}


def _check_config(config: Path, content: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    was, now = portable(content.get("settings") or own), portable(own)
    # A place that is none any more is one all the same.
    names = [name for name in changed(was, now) if name.rpartition(".")[2] not in _PLACES]
    if names:
        raise ConfigError(
            f"{config} is not what its last checkpoint was made with: {', '.join(names[:6])}. Put it back as fit "
            "wrote it."
        )


def _check_base(run: Path, identity: Mapping[str, Any], found: Certificate) -> None:
    was = (identity.get("base") or {}).get("weights_sha256")
    if was and was != found.base["weights_sha256"]:
        raise ConfigError(
            f"The base's weights are not those that {run} was trained on. Name those by --model.model_id."
        )


def set_threads(kept: Certificate) -> None:
    """Add up as the run did, where that is done by a CPU's threads."""
    threads = kept.machine.get("threads")
    if kept.machine.get("accelerator") == "cpu" and isinstance(threads, int) and threads > 0:
        torch.set_num_threads(threads)
