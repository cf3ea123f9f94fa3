"""Digests of trained weights and optimizer states, of each kept checkpoint of a run and of its adapter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlm_lit.models.adapter_state import FINGERPRINT, WEIGHTS, file_sha256
from vlm_lit.training.certifying.certificate import WeightDigests
from vlm_lit.training.certifying.item_digests import LENGTH


def tensor_digests(state: Mapping[str, Tensor]) -> list[str]:
    """A digest for each tensor, [...], of its dtype, its shape and its bytes, in the state's order."""
    return [_digest(tensor)[:LENGTH] for tensor in state.values()]


def _digest(tensor: Tensor) -> str:
    whole = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def state_digest(state: object) -> str:
    """One digest of all that an optimizer's state holds, tensors by their bytes."""
    return hashlib.sha256(json.dumps(_plain(state)).encode()).hexdigest()[:LENGTH]


def _plain(state: object) -> object:
    if isinstance(state, Tensor):
        return _digest(state)
    if isinstance(state, Mapping):
        return [[str(key), _plain(value)] for key, value in state.items()]
    if isinstance(state, (list, tuple)):
        return [_plain(value) for value in state]
    return repr(state)


def weight_digests(kept: Mapping[int, Mapping[str, Any]], adapter: Path) -> WeightDigests:
    """The digests of a run's kept checkpoints and of its adapter.

    Args:
        kept: the contents of the checkpoints, by their step.
        adapter: the folder of the final adapter, which need not be there.
    """
    names = next((list(content["state_dict"]) for content in kept.values()), [])
    there = (adapter / WEIGHTS).is_file()
    about = adapter / FINGERPRINT
    step = json.loads(about.read_text(encoding="utf-8")).get("global_step") if there and about.is_file() else None
    return WeightDigests(
        names=names,
        steps=list(kept),
        tensors=[tensor_digests(content["state_dict"]) for content in kept.values()],
        optimizers=[state_digest(content["optimizer_states"]) for content in kept.values()],
        adapter=file_sha256(adapter / WEIGHTS) if there else None,
        adapter_step=step if isinstance(step, int) else None,
    )
