"""`cache`: compute the vision features of a `fit`'s images ahead, so that the run finds them. Nothing is trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from vlm_lit.commands.early_check import check
from vlm_lit.commands.options import OptionParser
from vlm_lit.errors import ConfigError

if TYPE_CHECKING:
    from vlm_lit.data.features.feature_store import FeatureStore

_EPILOG = """Takes the config files and overrides of fit: fit --help lists them. The features of the
training and validation images go to the folder data.init_args.feature_cache, where a fit with the same processor,
vision tower and precision finds them. Several processes may fill one folder at once."""


def run(verb: str, arguments: Sequence[str]) -> int:
    """Fill the store and say what is in it; the exit status.

    Raises:
        VlmLitError: whatever `fit` would refuse, and features that would not fit on the disk.
    """
    parser = OptionParser(verb, description=__doc__, epilog=_EPILOG)
    _, of_fit = parser.parse_known_args(arguments)
    check("fit", of_fit)
    # The libraries print where they like; standard output is for the result alone.
    with redirect_stdout(sys.stderr):
        store = _filled(of_fit)
    print(f"{len(store):,} images in {store.folder}")
    return 0


def _filled(arguments: Sequence[str]) -> FeatureStore:
    from vlm_lit.commands.lightning import prepared
    from vlm_lit.data.token_rows import TokenRows
    from vlm_lit.preflight.cache_ahead import fill_ahead
    from vlm_lit.training.module import VisionLanguageModule

    run = prepared(arguments)
    if not isinstance(run.model, VisionLanguageModule) or not isinstance(run.datamodule, TokenRows):
        raise ConfigError(
            "cache knows a VisionLanguageModule on a ConversationDataModule; this config asks for "
            f"{type(run.model).__name__} on {type(run.datamodule).__name__}."
        )
    if run.datamodule.feature_cache is None:
        raise ConfigError("cache needs a folder: set data.init_args.feature_cache to the one that fit is to use.")
    return fill_ahead(run.model, run.datamodule, run.trainer, say=lambda line: print(line, file=sys.stderr, flush=True))
