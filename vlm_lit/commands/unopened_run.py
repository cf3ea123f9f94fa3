"""Model and data of a run from its config alone, on a machine with neither its GPU nor its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning

from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.commands.process_rules import refusing
from vlm_lit.preflight.budget.rank_memory import RankPlan
from vlm_lit.training.frozen_sharded import NAME, FrozenShardedStrategy
from vlm_lit.training.ranks import check_strategy


class UnopenedRun(VlmLitCLI):
    """The model and data of a `fit` that is not run and opens nothing. Its trainer has the run's precision alone."""

    writes = False

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__("fit", arguments)

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:  # noqa: ANN401 - Lightning's signature
        """A trainer on the CPU: the accelerator that the config names need not be here."""
        asked = self._get(self.config_init, "trainer", default={})
        return lightning.Trainer(
            accelerator="cpu",
            devices=1,
            precision=asked.get("precision"),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def rank_plan(self, gpus: int | None) -> RankPlan:
        """How many GPUs the run has, as its config says or as is given, and what each holds.

        Raises:
            ConfigError: a strategy that `fit` refuses.
        """
        asked = self._get(self.config_init, "trainer", default={})
        strategy = asked.get("strategy")
        split = strategy == NAME or isinstance(strategy, FrozenShardedStrategy)
        if strategy is not None and not split:
            check_strategy(strategy)
        world = gpus or _count(asked.get("devices")) * int(asked.get("num_nodes") or 1)
        return RankPlan(strategy="frozen_sharded" if split else "ddp", world=world)

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def _count(devices: object) -> int:
    """How many devices of a machine are meant; 1 where that is for the machine to say."""
    if isinstance(devices, list):
        return len(devices)
    return max(1, int(devices)) if isinstance(devices, int | str) and str(devices).isdecimal() else 1


def unopened(arguments: Sequence[str]) -> UnopenedRun:
    """The run that `fit` with these arguments would be, without looking at data, checkpoint or device."""
    with refusing():
        return UnopenedRun(arguments)
