"""Model and data of a run from its config alone, on a machine with neither its GPU nor its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning

from vlm_lit.commands.lightning import VlmLitCLI
from vlm_lit.commands.process_rules import refusing


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

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def unopened(arguments: Sequence[str]) -> UnopenedRun:
    """The run that `fit` with these arguments would be, without looking at data, checkpoint or device."""
    with refusing():
        return UnopenedRun(arguments)
