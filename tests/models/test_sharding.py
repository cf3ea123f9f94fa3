"""Tests of equality 10 on a model alone: a frozen base split over two processes is a whole one, to the last bit."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from vlm_lit.errors import ConfigError
from vlm_lit.models.adapters import attach_adapters, recompute_activations
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.loading import load_base
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings, parameter_count
from vlm_lit.models.quantization import QuantizationSettings
from vlm_lit.models.sharding import check_splittable, split_frozen

WORLD = 2
LLAVA = FAMILIES["llava"]
FP32 = PartSettings(precision="fp32")


@dataclass(frozen=True)
class Found:
    """What a rank has seen."""

    same: bool
    refused: str
    shares: list[tuple[int, int]]
    whole_again: int
    counted: tuple[int, int]


def _model(folder: Path, precision: str, *, recomputed: bool) -> nn.Module:
    language = PartSettings(precision=precision, training="lora")  # type: ignore[arg-type]
    parts = PartsSettings(vision_tower=FP32, projector=FP32, language_model=language, head=FP32)
    settings = QuantizationSettings(compute_dtype="fp32")
    base, family = load_base(str(folder), parts=parts, quantization=settings)
    attach_adapters(base, family, parts, LoraSettings(dropout=0.0), seed=0)
    if recomputed:
        recompute_activations(base, family, ["language_model"])
    with torch.no_grad():
        for name, weight in base.named_parameters():
            if "lora_B" in name:
                weight.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    base.train()
    assert isinstance(base, nn.Module)
    return base


def _pass(model: nn.Module, seed: int) -> tuple[Tensor, list[Tensor]]:
    """A loss, and the gradients of what is trained."""
    words = torch.randint(4, 300, (2, 9), generator=torch.Generator().manual_seed(seed))
    loss = model(input_ids=words, labels=words).loss
    loss.backward()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = [weight.grad.clone() for weight in trained if weight.grad is not None]
    for weight in trained:
        weight.grad = None
    return loss.detach(), gradients


def _fails_within_a_layer(model: nn.Module) -> str:
    """What a pass says that fails in the second layer, forward."""

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    hook = model.get_submodule(f"{LLAVA.decoder_layers}.1.mlp").register_forward_pre_hook(fail)
    try:
        _pass(model, 0)
    except RuntimeError as error:
        return str(error)
    finally:
        hook.remove()
    return ""


def _on_a_rank(rank: int, store: str, folder: Path, precision: str, recomputed: bool) -> Found:
    torch.set_num_threads(1)
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD, timeout=limit)
    whole, model = (_model(folder, precision, recomputed=recomputed) for _ in range(2))
    counted = sum(map(parameter_count, model.parameters()))
    split = split_frozen(model, LLAVA, init_device_mesh("cpu", (WORLD,)))
    same, refused = True, ""
    # One rank makes four passes of which one fails, the other one: nobody waits for a pass that does not come.
    for seed in range(4 if rank == 0 else 1):
        if seed == 2:
            refused = _fails_within_a_layer(model)
        (loss, gradients), (expected, others) = _pass(model, seed), _pass(whole, seed)
        same = same and torch.equal(loss, expected) and len(gradients) == len(others) > 0
        same = same and all(torch.equal(one, other) for one, other in zip(gradients, others, strict=True))
    split.help_until_done()
    layers = model.get_submodule(LLAVA.decoder_layers)
    held = [weight for weight in layers.parameters() if not weight.requires_grad]
    shares = [(w.to_local().numel(), w.numel()) for w in held if isinstance(w, DTensor)]
    found = Found(
        same, refused, shares, len(held) - len(shares), (counted, sum(map(parameter_count, model.parameters())))
    )
    dist.destroy_process_group()
    return found


@pytest.mark.parametrize(("precision", "recomputed"), [("nf4", True), ("fp32", False)])
def test_loss_and_gradients_are_those_of_a_whole_base(
    precision: str, recomputed: bool, tiny_llava: Path, tmp_path: Path
) -> None:
    context = get_context("forkserver")
    arguments: list[list[Any]] = [[str(tmp_path / "store")] * WORLD, [tiny_llava] * WORLD]
    with ProcessPoolExecutor(WORLD, mp_context=context) as pool:
        asked = ([precision] * WORLD, [recomputed] * WORLD)
        found = list(pool.map(_on_a_rank, range(WORLD), *arguments, *asked))
    for rank in found:
        assert rank.same
        assert rank.whole_again == 0
        assert all(2 * mine == all_of_it for mine, all_of_it in rank.shares)
        assert len(rank.shares) == 2 * 9  # two layers of seven matrices and two norms
        assert rank.counted[0] == rank.counted[1]
    assert found[0].refused == "out of memory"


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (PartSettings(precision="fp32", training="full"), "language_model.training is full: nothing of its layers"),
        (PartSettings(precision="int8", training="lora"), "cannot split a language model that is stored in int8"),
    ],
)
def test_a_base_of_which_nothing_can_be_split_is_refused(language: PartSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_splittable(PartsSettings(language_model=language))
    check_splittable(PartsSettings())
    check_splittable(PartsSettings(language_model=PartSettings(precision="fp32", training="full", last_layers=1)))
