"""Decoder layers compiled by torch.compile in training: fewer kernels on a GPU, where it has not been measured yet.

Answers are generated the usual way, since a cache that grows would have its layers compiled again and again. Liger's
kernels, which join the same operators, are no option: its patches are of the whole process, so a base that is loaded
beside the tuned model gets them as well, and 0.8.5 does not know the Qwen classes of transformers 5.24.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vlm_lit.errors import ConfigError
from vlm_lit.models.class_before import class_before
from vlm_lit.models.families import Family
from vlm_lit.models.last_layer import LastLayer
from vlm_lit.models.plain_layers import put_aside


class CompiledLayer(nn.Module):
    """What is put before the class of a decoder layer: torch.compile's kernels where gradients are wanted."""

    compiled: Callable[..., Any] | None = None

    def forward(self, *inputs: Any, **options: Any) -> Any:  # noqa: ANN401 - each layer's own
        """The layer's output.

        Raises:
            ConfigError: torch cannot compile it here.
        """
        if put_aside() or not torch.is_grad_enabled():
            return super().forward(*inputs, **options)
        from torch._dynamo.exc import BackendCompilerFailed  # heavy, as is all of torch's compiler

        if self.compiled is None:
            self.compiled = torch.compile(super().forward, dynamic=True)
        try:
            return self.compiled(*inputs, **options)
        except BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().partition("\n")[0] or type(error.inner_exception).__name__
            raise ConfigError(
                f"model.compile_layers is true, and torch cannot compile here: {reason.rstrip('.')}. "
                "On a CPU it needs a C++ compiler, on a GPU Triton. Set it to false."
            ) from error


def compile_layers(base: nn.Module, family: Family) -> None:
    """Let every decoder layer be compiled but the last one, where it is computed at few places alone.

    Rows of all lengths share what is compiled, and dropout draws the numbers that it draws otherwise.

    Args:
        base: the model, adapted, without its PEFT shell.
        family: its facts.
    """
    from torch._inductor import config

    config.fallback_random = True
    for layer in base.get_submodule(family.decoder_layers).modules():
        if isinstance(layer, GradientCheckpointingLayer) and not isinstance(layer, LastLayer):
            layer.__class__ = class_before(CompiledLayer, type(layer))
