"""Vision features of a run that is not run, computed ahead in this process alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning

from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.preflight.attached import attach
from vlm_lit.training.feature_cache import filled_store
from vlm_lit.training.module import VisionLanguageModule


def fill_ahead(
    module: VisionLanguageModule,
    data: TokenRows[Any],
    trainer: lightning.Trainer,
    *,
    say: Callable[[str], None],
) -> FeatureStore:
    """Fill the store of a run.

    Raises:
        ConfigError: what a `fit` with the same config would refuse.
    """
    attach(module, data, trainer)
    say(f"Loading {module.model_id} ...")
    module.configure_model()
    module.to(trainer.strategy.root_device)
    assert module.family is not None
    store = filled_store(data, module.base, module.family, trainer, say=say)
    store.refresh()
    return store
