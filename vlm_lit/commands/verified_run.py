"""The run that `verify` measures: its model loaded, and what measures the equalities of its kind of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vlm_lit.commands.collated import collator_of
from vlm_lit.errors import ConfigError

if TYPE_CHECKING:
    import lightning

    from vlm_lit.commands.lightning import PreparedRun
    from vlm_lit.preflight.class_verification import ClassVerification
    from vlm_lit.preflight.verification import Verification


def measured(
    of_fit: Sequence[str], count: int, *, join: bool = False
) -> tuple[Verification[Any] | ClassVerification, lightning.Trainer]:
    """What measures the equalities of a run, its model loaded, and the run's trainer.

    Args:
        of_fit: the command line's arguments for fit.
        count: how many items it computes on.
        join: whether this is one of several processes, which find each other then.

    Raises:
        VlmLitError: whatever `fit` would refuse.
    """
    from vlm_lit.commands.lightning import prepared
    from vlm_lit.data.records.record_dataset import RecordDataset
    from vlm_lit.preflight.attached import attach
    from vlm_lit.preflight.equality import in_bfloat16
    from vlm_lit.preflight.verification import chosen

    run = prepared(of_fit)
    module, data, trainer = run.model, run.datamodule, run.trainer
    verification = _verification(run)
    train = data.datasets["train"]
    if not isinstance(train, RecordDataset):
        raise ConfigError("A stream cannot be verified: set data.init_args.train.streaming to false.")
    if join:
        trainer.strategy.setup_environment()
    attach(module, data, trainer)
    module.configure_model()
    module.to(trainer.strategy.root_device)
    bf16 = in_bfloat16(module, trainer)
    with trainer.precision_plugin.train_step_context():
        items = chosen([train[i] for i in range(min(len(train), 1024))], count)
        return verification(items, bf16), trainer


def _verification(run: PreparedRun) -> Callable[[Sequence[Any], bool], Verification[Any] | ClassVerification]:
    """What measures the equalities of this kind of data on some items, in bfloat16 or not.

    Raises:
        ConfigError: a kind that has none.
    """
    from vlm_lit.data.rows.class_collate import ClassCollator
    from vlm_lit.data.rows.pairs import PairCollator
    from vlm_lit.preflight.class_verification import ClassVerification
    from vlm_lit.preflight.pair_verification import PairVerification
    from vlm_lit.preflight.verification import Verification

    module, data, collator = run.model, run.datamodule, collator_of(run, "verify")
    if isinstance(collator, ClassCollator):
        return lambda conversations, bf16: ClassVerification(module, data, collator, conversations, bf16=bf16)
    if isinstance(collator, PairCollator):
        return lambda pairs, bf16: PairVerification(module, data, collator, pairs, bf16=bf16)
    return lambda conversations, bf16: Verification(module, data, conversations, bf16=bf16)
