"""Defaults of loggers named in a config: they write into the run directory unless told otherwise.

`{run_dir}` in a logger's settings is the run's directory: the defaults here are written with it, so that a kept config
can be run again in another directory.
"""

from __future__ import annotations

import os
import re
from argparse import Action
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from jsonargparse import Namespace
from lightning.pytorch.loggers import Logger, MLFlowLogger

from vlm_lit.errors import ConfigError

RUN_DIR: Final = "{run_dir}"
_MISSING: Final = re.compile(r"Requirement '([\w-]+)\S*' not met")


def run_defaults(kind: type, actions: Iterable[Action]) -> dict[str, str]:
    """Defaults for a logger class's options that keep its files in the run directory; none for any other class.

    Whoever is asked for no more need not be given: a `save_dir` that the class requires is no longer required.

    Args:
        kind: the class whose options are being added to a parser.
        actions: the parser's options.
    """
    if not (isinstance(kind, type) and issubclass(kind, Logger)):
        return {}
    wanted = {"save_dir": RUN_DIR}
    if issubclass(kind, MLFlowLogger):
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{RUN_DIR}/mlflow.db"
        wanted |= {"tracking_uri": uri, "experiment_name": RUN_DIR}
    found = [action for action in actions if action.dest in wanted]
    for action in found:
        action.required = False
    return {action.dest: wanted[action.dest] for action in found}


def in_run_directory(settings: Namespace, run_dir: Path) -> Namespace:
    """Trainer settings with the run directory for every `{run_dir}` in its loggers' settings; a copy.

    MLflow keeps pictures and tables where its experiment says: in the run directory for an experiment of the run's own,
    beside a local database for one that several runs share.
    """
    settings = settings.clone()
    loggers = settings.get("logger")
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if not isinstance(logger, Namespace) or "init_args" not in logger:
            continue
        if str(logger["class_path"]).endswith(".MLFlowLogger"):
            _settle_artifacts(logger["init_args"])
        for name, value in vars(logger["init_args"]).items():
            if isinstance(value, str):
                logger["init_args"][name] = value.replace(RUN_DIR, str(run_dir))
    return settings


def _settle_artifacts(settings: Namespace) -> None:
    uri = str(settings["tracking_uri"])
    if settings["artifact_location"] is not None or not uri.startswith("sqlite:///"):
        return
    shared = settings["experiment_name"] != RUN_DIR
    folder = str(Path(uri.removeprefix("sqlite:///")).parent) if shared else RUN_DIR
    settings["artifact_location"] = f"{folder}/mlruns"


def check_installed(error: Exception) -> None:
    """Say in a sentence what a logger of Lightning's says in a page: that its package is not installed.

    Raises:
        ConfigError: the error is one of these; nothing is raised for any other.
    """
    found = _MISSING.search(str(error))
    if found is not None:
        raise ConfigError(
            f"trainer.logger needs the package {found[1]}, which is not installed: pip install {found[1]}"
        ) from error
