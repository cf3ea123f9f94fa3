"""Kind of batches that a run trains on, for the verbs that look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlm_lit.errors import ConfigError

if TYPE_CHECKING:
    from vlm_lit.commands.lightning import PreparedRun
    from vlm_lit.data.rows.class_collate import ClassCollator
    from vlm_lit.data.rows.collate import StepCollator
    from vlm_lit.data.rows.pairs import PairCollator


def collator_of(run: PreparedRun, verb: str) -> StepCollator | ClassCollator | PairCollator:
    """What makes the step batches of a run, of one of the kinds that `verb` knows.

    Raises:
        ConfigError: the module has no loss, or the data are of another kind.
    """
    from vlm_lit.data.record_datamodule import RecordDataModule
    from vlm_lit.data.rows.class_collate import ClassCollator
    from vlm_lit.data.rows.collate import StepCollator
    from vlm_lit.data.rows.pairs import PairCollator
    from vlm_lit.training.protocols import has_loss

    module, data = run.model, run.datamodule
    collator = data.collator() if has_loss(module) and isinstance(data, RecordDataModule) else None
    if not isinstance(collator, StepCollator | ClassCollator | PairCollator):
        raise ConfigError(
            f"{verb} needs a module with a loss(batch) on a ConversationDataModule, a PreferenceDataModule or a "
            f"ClassifierDataModule; this config asks for {type(module).__name__} on {type(data).__name__}."
        )
    return collator
