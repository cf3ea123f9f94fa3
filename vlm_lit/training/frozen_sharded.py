"""Lightning's strategy for a frozen base that is split over processes, while what trains is whole on each of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import lightning
import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy, StrategyRegistry
from torch import Tensor, nn
from torch.optim import Optimizer

from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import trainable_state
from vlm_lit.models.families import Family
from vlm_lit.models.parts import PartsSettings
from vlm_lit.models.sharding import SplitLayers, check_splittable, split_frozen

NAME: Final = "frozen_sharded"
"""What a config calls it."""
_TIMEOUT: Final = timedelta(minutes=30)


class FrozenShardedStrategy(ModelParallelStrategy):
    """Splits the frozen weights of each decoder layer over all processes (FSDP2); see `models/sharding.py`.

    Data, gradients, optimizer and checkpoints are those of DDP: whatever is trained is whole on every process, and a
    checkpoint is one file that holds nothing else. Lightning's own strategy would put the whole base together for it.

    Args:
        process_group_backend: as Lightning's; null takes nccl for GPUs and gloo for CPUs.
        timeout: how long a process waits for another.
    """

    def __init__(self, process_group_backend: str | None = None, timeout: timedelta | None = _TIMEOUT) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )
        self.split: SplitLayers | None = None

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """Every process trains on data of its own; known before the processes have found each other."""
        return {"num_replicas": self.num_nodes * self.num_processes, "rank": self.global_rank}

    def setup_environment(self) -> None:
        """Connect the processes, in one group for the data: Lightning's own default is a group a machine."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def check(self, parts: PartsSettings) -> None:
        """Refuse parts of which nothing can be split.

        Raises:
            ConfigError: says what to change.
        """
        check_splittable(parts)

    def split_base(self, base: nn.Module, family: Family) -> None:
        """Split a base that has just been loaded and adapted."""
        self.split = split_frozen(base, family, self.device_mesh["data_parallel"])

    def setup(self, trainer: lightning.Trainer) -> None:
        """As Lightning's, for a model that was split.

        Raises:
            ConfigError: its module has not been.
        """
        if self.split is None:
            raise ConfigError(
                f"trainer.strategy is {NAME}, and {type(self.lightning_module).__name__} does not split its base: it "
                "is for the modules of vlm_lit and what derives from them. Use ddp."
            )
        # Weights that are first gathered in inference mode could not be trained with behind it.
        for loop in (
            trainer.validate_loop,
            trainer.test_loop,
            trainer.predict_loop,
            trainer.fit_loop.epoch_loop.val_loop,
        ):
            loop.inference_mode = False
        super().setup(trainer)

    # Whatever all processes do together comes behind all gatherings of layers --------------------------------------

    def _join(self) -> None:
        if self.split is not None and torch.distributed.is_initialized():
            self.split.help_until_done()

    def barrier(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - Lightning's
        """Wait for the others."""
        self._join()
        super().barrier(*arguments, **options)

    def broadcast(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - Lightning's
        """Tell the others."""
        self._join()
        return super().broadcast(*arguments, **options)

    def reduce(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ANN401 - Lightning's
        """Sum or average over the processes."""
        self._join()
        return super().reduce(*arguments, **options)

    def all_gather(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ANN401 - Lightning's
        """Every process's tensor."""
        self._join()
        return super().all_gather(*arguments, **options)

    def teardown(self) -> None:
        """Let go of the model."""
        self.split = None
        super().teardown()

    # A checkpoint is what one device would write -------------------------------------------------------------------

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Before, as for one device."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning does."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The trained weights alone; the base is never put together."""
        assert self.lightning_module is not None
        return trainable_state(self.lightning_module)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Nothing to do: the module has put every trained weight back in `on_load_checkpoint`."""

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """An optimizer's state, all of which every process has."""
        return Strategy.optimizer_state(self, optimizer)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Put it back."""
        Strategy.load_optimizer_state_dict(self, checkpoint)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: object | None = None
    ) -> None:
        """Write one file, by the first process."""
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read the whole file, which every process does."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)


def _register() -> None:
    if NAME not in StrategyRegistry:  # it is asked for by name: --trainer.strategy frozen_sharded
        StrategyRegistry.register(NAME, FrozenShardedStrategy, description="A frozen base, split over processes")


_register()
