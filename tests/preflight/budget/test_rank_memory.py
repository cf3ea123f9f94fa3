"""Tests of a budget for several GPUs: what two real ranks with a split base hold, by tensors, and what is said."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from tests.support import budget_cases as cases
from tests.support.interrupted import start
from tests.support.ports import free_port
from vlm_lit.cli import main
from vlm_lit.models.quantization import Precision
from vlm_lit.models.stored_bytes import holdings, tensor_bytes
from vlm_lit.preflight.budget.hollow_module import resident
from vlm_lit.preflight.budget.rank_memory import RankPlan

WORLD = 2


def _split_bytes(rank: int, port: int, checkpoint: Path, precision: Precision, folder: Path) -> None:
    """What a rank holds, and its largest layer while it is whole, written into a file."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    from vlm_lit.models.sharding import split_frozen

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    module = cases.loaded(cases.module(checkpoint, cases.parts(precision)))
    assert module.family is not None
    split = split_frozen(module.base, module.family, init_device_mesh("cpu", (WORLD,)))
    held = tensor_bytes(t.to_local() if isinstance(t, DTensor) else t for t in resident(module))
    largest = 0
    for layer in split.layers:
        layer.unshard()
        assert isinstance(layer, nn.Module)
        largest = max(largest, tensor_bytes(p for p in layer.parameters() if not p.requires_grad))
        layer.reshard()
        split.help_until_done()
    (folder / f"rank{rank}.json").write_text(json.dumps({"held": held, "largest": largest}))
    dist.destroy_process_group()
    os._exit(0)  # a mesh's groups would be waited for


@pytest.mark.parametrize("precision", ["nf4", "fp32"])
def test_two_ranks_hold_what_was_said(tiny_llava: Path, tmp_path: Path, precision: Precision) -> None:
    port = free_port()
    ranks = [start(_split_bytes, rank, port, tiny_llava, precision, tmp_path) for rank in range(WORLD)]
    for rank in ranks:
        rank.join(180)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    hollow = cases.hollowed(cases.module(tiny_llava, cases.parts(precision)), tiny_llava)
    assert hollow.family is not None
    memory = RankPlan(strategy="frozen_sharded", world=WORLD).memory(hollow.base, hollow.family)
    whole = sum(holding.size for holding in holdings(hollow.base, hollow.family))
    gradients = sum(p.numel() * p.element_size() for p in hollow.trainable_parameters())
    found = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(WORLD)]
    assert max(one["held"] for one in found) == whole + gradients - memory.elsewhere
    assert memory.elsewhere > 0
    assert {2 * one["largest"] for one in found} == {memory.gathered}


def test_ddp_holds_all_of_it(tiny_llava: Path) -> None:
    hollow = cases.hollowed(cases.module(tiny_llava, cases.parts("nf4")), tiny_llava)
    assert hollow.family is not None
    memory = RankPlan(strategy="ddp", world=8).memory(hollow.base, hollow.family)
    assert (memory.elsewhere, memory.gathered) == (0, 0)


def _budget(config: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["budget", "--config", str(config), "--length", "64", *more]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_budget_follows_the_strategy(config: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path, as_json = config(data={"val": None}), ("--format", "json")
    one = json.loads(_budget(path, capsys, *as_json))
    split = ("--trainer.strategy=frozen_sharded", "--trainer.devices=4", "--trainer.num_nodes=2")
    eight = json.loads(_budget(path, capsys, *split, *as_json))
    assert (one["gpus"], eight["gpus"]) == (
        {"strategy": "ddp", "world": 1},
        {"strategy": "frozen_sharded", "world": 8},
    )
    alone = {recipe["name"]: recipe["memory"] for recipe in one["recipes"]}
    for recipe in eight["recipes"]:
        memory = recipe["memory"]
        assert memory["between_steps"] == alone[recipe["name"]]["between_steps"] - memory["on_other_gpus"]
        assert memory["on_other_gpus"] > 0
    refused = {refused["name"]: refused["reason"] for refused in eight["refused"]}
    # Of full and int8 nothing can be split; the others, and full, are refused for one GPU as well.
    assert refused.keys() - {other["name"] for other in one["refused"]} == {"int8"}
    assert "frozen_sharded cannot split a language model that is stored in int8" in refused["int8"]
    assert "frozen_sharded splits the frozen base" in refused["full"]
    said = " ".join(_budget(path, capsys, *split[:1], "--gpus", "2").split())
    assert "2 GPUs (frozen_sharded): the frozen weights of the decoder layers are split over them" in said
    said = " ".join(_budget(path, capsys, "--trainer.strategy=ddp", "--gpus", "2").split())
    assert "2 GPUs (ddp): each holds all of the model." in said
    assert "GPUs (" not in _budget(path, capsys)
    assert main(["budget", "--config", str(path), "--length", "64", "--trainer.strategy=fsdp"]) == 2


def test_shares_are_rounded_up() -> None:
    class _Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 3, bias=False), nn.Linear(4, 3, bias=False)])
            for parameter in self.parameters():
                parameter.requires_grad_(False)
            self.layers[1].register_parameter("lora", nn.Parameter(torch.zeros(100)))

    class _Family:
        decoder_layers = "layers"

    memory = RankPlan(strategy="frozen_sharded", world=2).memory(_Layers(), _Family())  # type: ignore[arg-type]
    # Of three rows a rank has two: the other has one of 2 floats, and one of 4.
    assert (memory.elsewhere, memory.gathered) == (4 * (2 + 4), 2 * 4 * 12)
