"""Tests of equality 10 over all families: a base split over two processes gives the loss and gradients of a whole one.

The second process's rows have no image where the family allows that, and it generates answers while the first waits.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from tests.support import family_cases as cases
from tests.support.family_cases import TinyFamily
from tests.support.family_table import Note
from vlm_lit.models.families import FAMILIES, owner_of
from vlm_lit.models.generation import StopTokens, generate
from vlm_lit.models.sharding import split_frozen

WORLD = 2


def _on_a_rank(rank: int, store: str, asked: list[tuple[str, TinyFamily, Path]]) -> dict[str, str]:
    """What is wrong with each family; `ok` where nothing is."""
    torch.set_num_threads(1)
    limit = timedelta(seconds=100)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD, timeout=limit)
    mesh = init_device_mesh("cpu", (WORLD,))
    found = {name: _looked_at(rank, tiny, folder, mesh) for name, tiny, folder in asked}
    dist.destroy_process_group()
    return found


def _looked_at(rank: int, tiny: TinyFamily, folder: Path, mesh: object) -> str:
    encoder, module = cases.encoder(folder), cases.module(folder, checkpointing=True)
    family = FAMILIES[tiny.model_type]
    module.train()
    images = 1 if rank == 0 or 0 not in tiny.images else 0
    batch = cases.encode(encoder, [cases.conversation(images, 1, seed) for seed in range(2)])
    asked = cases.encode(encoder, [cases.conversation(images, 1)], asked=True).inputs
    stop = StopTokens(end_of_turn=encoder.end_of_turn, pad=int(encoder.tokenizer.pad_token_id))
    longest = 1 + 3 * rank  # so that the second one's answer takes more forward passes
    expected = {name: grad for name, grad in cases.gradients(module, batch).items() if grad is not None}
    words = generate(module.base.eval(), asked, max_new_tokens=longest, stop=stop)
    split = split_frozen(module.base, family, mesh)  # type: ignore[arg-type]
    if generate(module.base.eval(), asked, max_new_tokens=longest, stop=stop) != words:
        return "other answers"
    module.train()
    gradients = {name: grad for name, grad in cases.gradients(module, batch).items() if grad is not None}
    split.help_until_done()
    if gradients.keys() != expected.keys() or not expected:
        return "gradients of others"
    for name, grad in expected.items():
        # Where each of several layers reads the projector's states, their gradients are added in another order.
        added = family.projected == "states" and owner_of(name, family) == "projector"
        far = float((gradients[name] - grad).abs().max() / grad.abs().max())
        if far > (1e-6 if added else 0.0):
            return f"the gradient of {name} is {far:.1e} away"
    layers = module.base.get_submodule(family.decoder_layers)
    whole = [name for name, w in layers.named_parameters() if not w.requires_grad and not isinstance(w, DTensor)]
    return f"{whole[0]} is whole" if whole else "ok"


def test_every_family_is_split(folders: dict[str, Path], tmp_path: Path, note: Note) -> None:
    asked = [(name, tiny, folders[name]) for name, tiny in cases.TINY.items()]
    with ProcessPoolExecutor(WORLD, mp_context=get_context("forkserver")) as pool:
        found = list(pool.map(_on_a_rank, range(WORLD), [str(tmp_path / "store")] * WORLD, [asked] * WORLD))
    for name in cases.TINY:
        wrong = [rank[name] for rank in found if rank[name] != "ok"]
        note(name, 99, "split", "FAILED" if wrong else "ok")
    assert [rank for rank in found if set(rank.values()) != {"ok"}] == []
