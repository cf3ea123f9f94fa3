"""Vision features of a run's images, computed before its first batch and taken from disk from then on."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import lightning
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.token_rows import TokenRows
from vlm_lit.errors import ConfigError
from vlm_lit.training.feature_cache import check_run, filled_store
from vlm_lit.training.protocols import Loaded, Towered
from vlm_lit.training.ranks import ranks_of


class FeatureCache(Callback):
    """Lets the data module take vision features from `feature_cache`; does nothing where no folder is named."""

    def setup(self, trainer: LightningTrainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be cached, before the model is loaded; hand the data module the way to the store."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, TokenRows) or data.feature_cache is None:
            return
        if not isinstance(pl_module, Towered):
            raise ConfigError(
                f"data.init_args.feature_cache: {type(pl_module).__name__} does not say which of its parts is the "
                "vision tower (model_id, revision, parts, family, base). Leave it out."
            )
        check_run(data, pl_module.model_id, pl_module.revision, pl_module.parts)
        data.use_features(partial(_filled, trainer, cast(Loaded, pl_module), data))


def _filled(trainer: lightning.Trainer, module: Loaded, data: TokenRows[Any]) -> FeatureStore:
    assert module.family is not None
    ranks = ranks_of(trainer)
    store = filled_store(
        data,
        module.base,
        module.family,
        trainer,
        say=rank_zero_info,
        rank=ranks.rank,
        world=ranks.world,
        each=ranks.each,
    )
    ranks.wait()
    store.refresh()
    return store
