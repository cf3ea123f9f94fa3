"""Data module whose batches are rows of tokens: shared by the questions of an image, limited in length, cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from vlm_lit.data.distinct_images import Shown
from vlm_lit.data.features.feature_store import FeatureStore
from vlm_lit.data.record_datamodule import RecordDataModule
from vlm_lit.data.records.conversation_dataset import most_images
from vlm_lit.data.records.record_dataset import Item
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.length_limit import TEXT, AutoLength, MaxLength, auto_length
from vlm_lit.data.rows.over_length import OverLength, OverLengthPolicy
from vlm_lit.data.run_shortcuts import shortcuts_of_module
from vlm_lit.data.step_datamodule import check_sizes
from vlm_lit.errors import ConfigError
from vlm_lit.schema import Shortcuts


class TokenRows(RecordDataModule[Item]):
    """A data module that makes rows of tokens for a causal language model.

    Args:
        micro_tokens: most tokens in a forward pass of several rows; None for no limit.
        packing: let questions about one image share a row, where the model allows it.
        questions_per_row: most questions that share a row.
        max_length: most tokens of a conversation; `auto` for what its images may need.
        over_length: what happens to a longer one.
        feature_cache: folder to keep the frozen vision tower's features in; None for none.
        feature_cache_gb: most gigabytes to add to that folder; None for as many as the disk has.
        settings: those of the class above.
    """

    def __init__(
        self,
        *,
        micro_tokens: int | None,
        packing: bool,
        questions_per_row: int,
        max_length: MaxLength,
        over_length: OverLength,
        feature_cache: str | None,
        feature_cache_gb: float | None,
        **settings: Any,  # noqa: ANN401 - as said
    ) -> None:
        super().__init__(**settings)
        check_sizes(micro_tokens=micro_tokens, questions_per_row=questions_per_row)
        if feature_cache_gb is not None and not feature_cache_gb >= 0:
            raise ConfigError(f"data.feature_cache_gb is {feature_cache_gb}; it must be at least 0, or null.")
        self.micro_tokens, self.packing, self.questions_per_row = micro_tokens, packing, questions_per_row
        self.max_length: MaxLength = max_length
        self.over_length: OverLength = over_length
        self.feature_cache, self.feature_cache_gb = feature_cache, feature_cache_gb
        self._open_store: Callable[[], FeatureStore] | None = None
        self._store: FeatureStore | None = None
        self._shortcuts: Shortcuts | None = None
        self._auto: dict[int, AutoLength] = {}
        self._limits_said: set[int] = set()

    @property
    def encoder(self) -> ConversationEncoder:
        """Turns conversations into padded batches, in the way the checkpoint's processor calls for."""
        return encoder_of(self.processor)

    def setup(self, stage: str) -> None:
        """Open and check the sources that `stage` (fit, validate, test, predict) needs."""
        if self.trainer is not None:
            self._shortcuts = None
        super().setup(stage)

    # What is done the short way ----------------------------------------------------------------------------------

    @property
    def shortcuts(self) -> Shortcuts:
        """What the run's module allows; everything, as long as no module is known."""
        if self.trainer is None or self.trainer.lightning_module is None:
            return Shortcuts()
        if self._shortcuts is None:
            self._shortcuts = shortcuts_of_module(self.trainer.lightning_module)
            if self.packing and self._shortcuts.unpackable is not None:
                rank_zero_info(f"Questions about one image get rows of their own: {self._shortcuts.unpackable}.")
        return self._shortcuts

    @property
    def packs(self) -> bool:
        """Whether questions about one image share a row: asked for, and allowed by the module."""
        return self.packing and self.shortcuts.unpackable is None

    @property
    def together(self) -> int | None:
        """Most conversations of one image that training visits in a row, so that they can share a row."""
        return self.questions_per_row if self.packs else None

    @property
    def tower(self) -> float:
        """What the vision tower's work on an image costs; nothing where its features are on disk."""
        return super().tower if self.feature_cache is None else 0.0

    def use_features(self, open_store: Callable[[], FeatureStore]) -> None:
        """Take vision features from a store, which is opened and filled when the first batch is to be made."""
        self._open_store, self._store = open_store, None

    def also_shown(self) -> Sequence[Shown]:
        """Conversations that batches show besides those of the data sets; the store keeps their images as well."""
        return ()

    def stored(self) -> FeatureStore | None:
        """The feature store, filled when first asked for: the model is on its device by then."""
        if self._store is None and self._open_store is not None:
            self._store = self._open_store()
        return self._store

    # How long a row may be ---------------------------------------------------------------------------------------

    def fitting(self, *splits: str) -> tuple[ConversationEncoder, OverLengthPolicy]:
        """What makes batches of these splits (training's by default), and what happens to conversations too long."""
        encoder, shared = self.encoder, TEXT if self.max_length == "auto" else None
        return encoder, OverLengthPolicy(encoder, self.length_limit(*splits), self.over_length, shared)

    def length_limit(self, *splits: str) -> int | None:
        """Most tokens of a conversation of these open splits, by default of those that `fit` reads; None for any."""
        shown = [most_images(self.datasets[name]) for name in splits or ("train", "val") if name in self.datasets]
        images = max(shown, default=1)
        limit = self.longest(images)
        if self.max_length == "auto" and images not in self._limits_said:
            self._limits_said.add(images)
            rank_zero_info(self._auto[images].words)
        return limit

    def longest(self, images: int) -> int | None:
        """Most tokens of a conversation where none has more than so many images; None for any."""
        if self.max_length != "auto":
            return self.max_length
        if images not in self._auto:
            self._auto[images] = auto_length(self.processor, images)
        return self._auto[images].limit

    def course(self) -> dict[str, Any]:
        """What training's rows and their order follow from; a run that goes on must have the same."""
        return {
            **super().course(),
            "max_length": self.length_limit(),
            "over_length": self.over_length,
            "questions_per_row": self.questions_per_row if self.packs else 1,
        }
