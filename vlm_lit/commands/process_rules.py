"""Rules of the process that a run lives in: which code a config may name, how YAML is read, what Lightning refuses."""

from __future__ import annotations

import os
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from jsonargparse import set_parsing_settings
from lightning.pytorch.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from vlm_lit.commands.option_errors import importable_packages
from vlm_lit.commands.parsing import read_config
from vlm_lit.errors import ConfigError

# What transformers says of a model whose processor is another one's.
_UNMATCHED: Final = re.compile(r"features and image tokens do not match|Input image size \(.*\) doesn't match model")
# What torch says of tensors that do not fit to each other.
_SHAPES: Final = re.compile(r"size of tensor a|shape '\[.*\]' is invalid|shapes cannot be multiplied|expected input\[")


def restrict_imports() -> None:
    """Let a config name code of these packages only: a config is data, and data may come from strangers.

    Packages of one's own are allowed by name in the environment variable VLM_LIT_ALLOW_IMPORTS, comma-separated.
    """
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=importable_packages())


@contextmanager
def refusing() -> Iterator[None]:
    """The rules put in place; what Lightning or a model refuses in the block comes out as an error of ours.

    Raises:
        ConfigError: Lightning refuses a setting, or a model what its processor makes.
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
    except (ValueError, RuntimeError) as error:
        if _UNMATCHED.search(str(error)) is None and not _by_tower(error):
            raise
        raise ConfigError(
            f"The model cannot take what the processor makes: {str(error).rstrip('.')}. The processor's files beside "
            "the checkpoint and its config.json belong to different models, or one of them was edited (patch_size, "
            "size, vision_feature_select_strategy, the image token). Fetch the checkpoint's files again."
        ) from error


def _by_tower(error: Exception) -> bool:
    """Whether a vision tower of transformers could not compute for its input's shape."""
    if _SHAPES.search(str(error)) is None:
        return False
    callers = (frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        type(caller).__module__.startswith("transformers.models.") and "Vision" in type(caller).__name__
        for caller in callers
    )
