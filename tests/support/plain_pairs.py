"""Log-probabilities of answers by a plain model, one conversation at a time, from all logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from tests.support import family_cases as cases
from tests.support.pair_cases import preferences, step
from tests.support.whole_precision import WholePrecision
from vlm_lit.models.attention import unpackable
from vlm_lit.schema import IGNORE_INDEX, Conversation, Preference, TokenBatch
from vlm_lit.training.preference import PreferenceModule

Batch = TypeVar("Batch", bound=TokenBatch)


def doubled(batch: Batch) -> Batch:
    """The batch with its pixels in float64."""
    return replace(batch, inputs={n: v.double() if v.is_floating_point() else v for n, v in batch.inputs.items()})


def plain_log_prob(model: nn.Module, folder: Path, talk: Conversation) -> tuple[Tensor, int]:
    """An answer's log-probability from all logits of its own unpadded row, and its tokens."""
    row = doubled(cases.encode(cases.encoder(folder), [talk]))
    log_probs = model(**row.inputs).logits[0, :-1].double().log_softmax(-1)
    targets = row.labels[0, 1:]
    said = targets != IGNORE_INDEX
    return log_probs[said].gather(1, targets[said, None]).sum(), int(said.sum())


def assert_equal_to_plain(
    folder: Path,
    ours: PreferenceModule,
    plain_loss: Callable[[nn.Module, nn.Module, Path, Sequence[Preference]], Tensor],
    **options: Any,
) -> None:
    """The loss and gradients of a step are those that two plain models give, in float64 within 1e-10.

    Args:
        folder: the checkpoint.
        ours: the module, in float64.
        plain_loss: the same loss from a policy and a reference.
        options: those of the step, besides packing, which is as the model allows.
    """
    pairs = preferences()
    reference = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64).eval()
    assert ours.family is not None
    packs = unpackable(ours.base, ours.family) is None
    made = step(folder, pairs, packing=packs, **options)
    assert all((batch.segments is not None) == packs for batch in made.micro_batches)
    with WholePrecision():
        loss = torch.stack([ours.loss(doubled(batch)) for batch in made.micro_batches]).sum() / made.weight
        expected = plain_loss(ours.base, reference, folder, pairs)
    names, parameters = zip(*((n, p) for n, p in ours.named_parameters() if p.requires_grad), strict=True)
    found = torch.autograd.grad(loss, parameters)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    for name, one, other in zip(names, found, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10, msg=f"{name} differs")
