"""Position of a resumed run, written into a checkpoint as the counters of Lightning's loops.

Lightning's own counters depend on the moment of the save: before a batch, in it, in a validation, after the last one.
Here they are put as if the save had come right after a step, with the validation that follows it done or still to do.
"""

from __future__ import annotations

from typing import Any


def place_behind_step(checkpoint: dict[str, Any], *, validation_due: bool) -> None:
    """Let Lightning go on behind the optimizer steps of a checkpoint, as within its one epoch.

    Args:
        checkpoint: as `Trainer.save_checkpoint` wrote it; its loops' counters are replaced.
        validation_due: the validation that belongs to the last step has not been done yet.
    """
    step, loops = int(checkpoint["global_step"]), checkpoint["loops"]["fit_loop"]
    loops["epoch_progress"] = _both(ready=1, started=1, processed=0, completed=0)
    done = _both(ready=step, started=step, processed=step, completed=step)
    loops["epoch_loop.batch_progress"] = {**done, "is_last_batch": False}
    # A validation of which a batch was begun and not finished is what Lightning goes back to.
    begun = int(validation_due)
    validation = _both(ready=begun, started=begun, processed=0, completed=0)
    loops["epoch_loop.val_loop.batch_progress"] = {**validation, "is_last_batch": False}
    # What is logged in a validation stands at the step before it.
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = step - begun


def _both(**counts: int) -> dict[str, Any]:
    return {"total": dict(counts), "current": dict(counts)}
