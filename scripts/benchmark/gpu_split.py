"""Split of a training step's time over the parts of the model, by the same marks for every side.

    vision           the vision tower's forward pass (for Qwen with the merger, which lies in it)
    language model   its forward pass, and its backward pass from its output to its input, recomputation included
    head             from the language model's output to the gradient's arrival there: head, loss and their backward
    data             from the end of a step to the begin of the next: decode, tokenise, collate, transfer
    rest             everything else of the step: projector, clipping, optimizer, logging

A mark waits for the device, so marks are set only while `on` is true, in steps whose speed is not counted.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from vlm_lit.models.families import Family


class Split:
    """Seconds by part, and how many positions the tower and the language model computed.

    Args:
        base: the model without a PEFT shell.
        family: where its parts are.
    """

    def __init__(self, base: nn.Module, family: Family) -> None:
        self.on = False
        self.seconds: dict[str, float] = defaultdict(float)
        self.positions: dict[str, int] = defaultdict(int)
        self._since = 0.0
        vision = base.get_submodule(family.roots("vision_tower")[0])
        language = base.get_submodule(family.roots("language_model")[0])
        vision.register_forward_pre_hook(self._begin)
        vision.register_forward_hook(self._vision_ends)
        language.register_forward_pre_hook(self._language_begins, with_kwargs=True)
        language.register_forward_hook(self._language_ends)

    def mark(self, part: str) -> None:
        """What has passed since the last mark was spent on `part`."""
        if not self.on:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[part] += now - self._since
        self._since = now

    def start(self) -> None:
        """Begin anew."""
        self.seconds.clear()
        self.positions.clear()
        self.on, self._since = True, time.perf_counter()

    def shares(self) -> dict[str, float]:
        """Each part's share of the time since the start."""
        whole = sum(self.seconds.values()) or 1.0
        return {part: seconds / whole for part, seconds in sorted(self.seconds.items())}

    def _begin(self, *_: object) -> None:
        self.mark("rest")

    def _vision_ends(self, module: nn.Module, inputs: object, output: Any) -> None:  # noqa: ANN401 - a library's
        self.mark("vision")
        hidden = output.last_hidden_state
        self.positions["vision"] += hidden.numel() // hidden.shape[-1]

    def _language_begins(self, module: nn.Module, inputs: object, options: dict[str, Any]) -> None:
        self.mark("rest")
        embedded = options["inputs_embeds"]
        self.positions["language_model"] += embedded.shape[0] * embedded.shape[1]
        if embedded.requires_grad:
            embedded.register_hook(self._marking("language_model"))

    def _language_ends(self, module: nn.Module, inputs: object, output: Any) -> None:  # noqa: ANN401 - a library's
        self.mark("language_model")
        if output.last_hidden_state.requires_grad:
            output.last_hidden_state.register_hook(self._marking("head"))

    def _marking(self, part: str) -> Any:  # noqa: ANN401 - a hook
        def hook(_: Tensor) -> None:
            self.mark(part)

        return hook
