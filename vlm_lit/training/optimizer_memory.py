"""Optimizer steps for which memory runs out: the first one, which allocates the optimizer's state, is done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vlm_lit.errors import VlmLitError
from vlm_lit.training.memory import free_memory, is_out_of_memory
from vlm_lit.training.ranks import warn


class FirstStep:
    """The state before a process's first optimizer step, kept on the host until that step is done.

    A step that fails halfway has changed some of the weights. Later steps need no more memory than the first, so that
    a copy is worth its time here and nowhere else.

    Args:
        optimizer: whose step it is.
        parameters: what it changes.
    """

    def __init__(self, optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> None:
        self.optimizer, self.parameters = optimizer, list(parameters)
        self._weights = [_copy(parameter.detach()) for parameter in self.parameters]
        self._states: dict[Tensor, dict[str, Any]] = {key: _copied(state) for key, state in optimizer.state.items()}

    def restore(self) -> None:
        """Take back what a failed step has changed, and let the next try take parameters one at a time."""
        with torch.no_grad():
            for parameter, kept in zip(self.parameters, self._weights, strict=True):
                parameter.copy_(kept)
        for key in list(self.optimizer.state):
            if key in self._states:
                self.optimizer.state[key] = _moved(self._states[key], self.optimizer.state[key])
            else:
                del self.optimizer.state[key]
        for group in self.optimizer.param_groups:
            if "foreach" in group and not group.get("fused"):
                group["foreach"] = False  # all at once needs copies of them all
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def before_first_step(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> FirstStep | None:
    """The state before a process's first step; None where the host has no room for a copy."""
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    size = sum(tensor.nbytes for tensor in [*parameters, *kept])
    free = free_memory(torch.device("cpu"))
    return FirstStep(optimizer, parameters) if free is None or 2 * size < free else None


def _copy(tensor: Tensor) -> Tensor:
    return tensor.to("cpu", copy=True)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {name: _copy(value) if isinstance(value, Tensor) else value for name, value in state.items()}


def _moved(kept: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What was kept, each tensor where it lies now."""
    return {
        name: value.to(now[name].device) if isinstance(value, Tensor) and isinstance(now.get(name), Tensor) else value
        for name, value in kept.items()
    }


def stepped(step: Callable[[], object], first: FirstStep | None, number: int) -> None:
    """Do an optimizer step, its first one in a process twice if need be.

    Args:
        step: does it.
        first: the state before it, if it is the first of this process.
        number: which step of the run it is.

    Raises:
        VlmLitError: there is not enough memory for it.
    """
    reason = _tried(step)
    if reason is not None and first is not None:
        first.restore()
        warn(f"Out of memory in the optimizer's step {number} ({reason}); it is done again in smaller parts.")
        reason = _tried(step)
    if reason is not None:
        raise VlmLitError(
            f"Out of memory in the optimizer's step {number} ({reason}). Train fewer parameters (lora.rank, parts), or "
            "name an optimizer that takes less memory, as bitsandbytes.optim.PagedAdamW8bit, in a new run."
        )


def _tried(step: Callable[[], object]) -> str | None:
    """Why memory ran out; None where it did not."""
    try:
        step()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return " ".join(str(error).split())[:200]
    return None
