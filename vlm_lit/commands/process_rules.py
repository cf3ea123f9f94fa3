"""Rules of the process that a run lives in: which code a config may name, how YAML is read, what Lightning refuses."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from jsonargparse import set_parsing_settings
from lightning.pytorch.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from vlm_lit.commands.option_errors import importable_packages
from vlm_lit.commands.parsing import read_config
from vlm_lit.errors import ConfigError


def restrict_imports() -> None:
    """Let a config name code of these packages only: a config is data, and data may come from strangers.

    Packages of one's own are allowed by name in the environment variable VLM_LIT_ALLOW_IMPORTS, comma-separated.
    """
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=importable_packages())


@contextmanager
def refusing() -> Iterator[None]:
    """The rules put in place; what Lightning refuses in the block comes out as an error of ours.

    Raises:
        ConfigError: Lightning refuses a setting.
    """
    # Workers are forked: a tokenizer's own threads would warn about it and switch themselves off anyway.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # It cannot know: the data module starts its loader at the checkpoint's step.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
    restrict_imports()
    read_config()
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(str(error)) from error
