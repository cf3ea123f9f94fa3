"""Content of a checkpoint: what a run needs to go on from it, and what of that is not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vlm_lit.errors import ConfigError

_WEIGHTS: Final = {"state_dict": "weights", "pytorch-lightning_version": "version of Lightning"}
COUNTERS: Final = (
    "state_dict",
    "epoch_loop.state_dict",
    "epoch_loop.batch_progress",
    "epoch_loop.scheduler_progress",
    "epoch_loop.automatic_optimization.state_dict",
    "epoch_loop.automatic_optimization.optim_progress",
    "epoch_loop.manual_optimization.state_dict",
    "epoch_loop.manual_optimization.optim_step_progress",
    "epoch_loop.val_loop.state_dict",
    "epoch_loop.val_loop.batch_progress",
    "epoch_progress",
)
"""What Lightning's loops cannot be set without."""
_OURS: Final = {
    "identity": "identity of the base and of what was put on it",
    "course": "course (data, learning rates)",
    "trainable_names": "names of the trained parameters",
}
"""What a module of this package adds; a module of a user's own does not."""
_OF_FIT: Final = ("validation_due", "settings", *_OURS)
"""Keys of which every checkpoint of a `fit` here has one."""


def lacking(content: Mapping[str, Any], *, resumes: bool, sealed: bool = False) -> str | None:
    """What is missing in a checkpoint, in words; None where all is there.

    Args:
        content: the checkpoint.
        resumes: whether training is to go on from it, for which weights alone are not enough.
        sealed: whether its file has our manifest, so that this package wrote it.
    """
    if not sealed and not any(key in content for key in _OF_FIT):
        return "anything that fit writes into a checkpoint, so that another program must have written it"
    needed = _missing_weights(content)
    if resumes:
        needed = [*needed, *_missing_course(content)]
    return ", ".join(needed) or None


def check_complete(content: Mapping[str, Any], read_by: str | None) -> None:
    """Refuse a checkpoint that lacks something which a module of this package needs.

    Args:
        content: the checkpoint.
        read_by: the data module that training is to go on with, which finds its position by its name; None where the
            weights alone are wanted.

    Raises:
        ConfigError: says what is missing.
    """
    missing = lacking(content, resumes=read_by is not None)
    if missing is None and "trainable_names" not in content:
        missing = "what a module of vlm_lit writes, so that another one must have written it"
    if missing is None and read_by is not None and read_by not in content:
        missing = f"position of a {read_by}: it was written with another data module"
    if missing is not None:
        raise ConfigError(
            f"The checkpoint cannot be {'read' if read_by is None else 'gone on from'}: it lacks {missing}."
        )


def _missing_weights(content: Mapping[str, Any]) -> list[str]:
    missing = [words for key, words in _WEIGHTS.items() if not content.get(key)]
    # One of them says that a module of this package wrote it, so that all have to be there.
    ours = [key for key in _OURS if key in content]
    return missing + [_OURS[key] for key in _OURS if ours and not content.get(key)]


def _missing_course(content: Mapping[str, Any]) -> Iterator[str]:
    if not _has_counters(content.get("loops")):
        yield "counters of the loops"
    if not _has_optimizers(content.get("optimizer_states"), trained=int(content["global_step"]) > 0):
        yield "state of an optimizer"
    if "course" not in content and "trainable_names" not in content:
        return  # a user's own module may do without what follows
    if not isinstance(content.get("lr_schedulers"), list) or not content["lr_schedulers"]:
        yield "state of the learning rate's schedule"
    positions = [value["step"] for value in content.values() if isinstance(value, Mapping) and set(value) == {"step"}]
    if content["global_step"] not in positions:
        yield "position in the data"


def _has_counters(loops: object) -> bool:
    fit = loops.get("fit_loop") if isinstance(loops, Mapping) else None
    return isinstance(fit, Mapping) and all(isinstance(fit.get(name), Mapping) for name in COUNTERS)


def _has_optimizers(states: object, *, trained: bool) -> bool:
    return isinstance(states, list) and bool(states) and all(_is_optimizer(state, trained) for state in states)


def _is_optimizer(state: object, trained: bool) -> bool:
    if not isinstance(state, Mapping):
        return False
    moments, groups = state.get("state"), state.get("param_groups")
    if not isinstance(moments, Mapping) or not isinstance(groups, list) or not groups:
        return False
    # Plain gradient descent keeps nothing of its steps, and whatever has betas does.
    keeps = any(isinstance(group, Mapping) and "betas" in group for group in groups)
    return bool(moments) or not (keeps and trained)
