"""Reference of a preference run: the model as it was when the run began, whatever has been trained since."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch import Tensor, nn


class Reference:
    """The start of a run, put in the trained model's place for as long as it is asked.

    A run that begins at its base has the base for its reference: LoRA layers are passed over, and PEFT holds the
    original of each module that is trained in full. One that begins at a saved adapter has that adapter: a copy of all
    trained parameters is kept. Either way nothing that an optimizer writes to is ever read.

    Args:
        model: the adapted model at the start of the run.
        of_adapter: whether the run begins at a saved adapter.
    """

    def __init__(self, model: PeftModel, *, of_adapter: bool) -> None:
        self.model = model
        trained = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
        self.start: dict[str, Tensor] | None = {name: p.detach().clone() for name, p in trained} if of_adapter else None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model is the reference in the meantime, and keeps no gradients."""
        with torch.no_grad():
            if self.start is None:
                yield from self._without_adapters()
            else:
                yield from self._with_start(self.start)

    def _without_adapters(self) -> Iterator[None]:
        adapters = self.model.base_model
        adapters.disable_adapter_layers()
        try:
            yield
        finally:
            adapters.enable_adapter_layers()

    def _with_start(self, start: dict[str, Tensor]) -> Iterator[None]:
        trained = {name: p for name, p in self.model.named_parameters() if name in start}
        for name, parameter in trained.items():
            start[name] = start[name].to(parameter)  # the model may have been moved since
        _exchange(trained, start)
        try:
            yield
        finally:
            _exchange(trained, start)


def _exchange(trained: dict[str, nn.Parameter], start: dict[str, Tensor]) -> None:
    """Let each parameter have the other's tensor; nothing is copied."""
    for name, parameter in trained.items():
        parameter.data, start[name] = start[name], parameter.data
