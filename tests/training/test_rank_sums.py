"""Tests of what ranks agree on: values, lists, and gradients, whose sums do not follow from the buckets they go in."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vlm_lit.data.rank_share import RankShare
from vlm_lit.training import ranks as module
from vlm_lit.training.ranks import Ranks, ReplicatedRanks, buckets

SHAPES = ((3, 5), (7,), (64, 64), (), (2, 2, 2))
BYTES = (1, 100, 2**30)


def _gradients(rank: int) -> list[Tensor | None]:
    """Those of a rank: the first one's second parameter has seen no data, and one lies across its memory."""
    drawn = torch.Generator().manual_seed(rank)
    made: list[Tensor | None] = [torch.randn(shape, generator=drawn) for shape in SHAPES]
    made.append(torch.randn(6, 4, generator=drawn).t())
    made.append(torch.randn(9, generator=drawn).bfloat16())
    if rank == 0:
        made[1] = None
    return made


def _parameters(rank: int) -> list[nn.Parameter]:
    made = []
    for own, shaped in zip(_gradients(rank), _gradients(1), strict=True):
        assert shaped is not None
        made.append(nn.Parameter(torch.zeros_like(shaped)))
        made[-1].grad = own
    return made


def _on_a_rank(rank: int, store: str) -> tuple[list[list[Tensor]], float, list[object]]:
    torch.set_num_threads(1)
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=limit)
    ranks, found, norm = ReplicatedRanks(RankShare(rank, 2)), [], 0.0
    for most in BYTES:
        module.BUCKET = most  # type: ignore[misc]
        parameters = _parameters(rank)
        ranks.sum_gradients(parameters)
        found.append([p.grad.clone() for p in parameters if p.grad is not None])
        norm = ranks.clip(parameters, 1.0)
    ranks.wait()
    agreed: list[object] = [ranks.sum(rank + 0.5), ranks.most(-rank), ranks.any(rank == 1), ranks.any(False)]
    agreed.append(ranks.each(f"rank {rank}"))
    dist.destroy_process_group()
    return found, norm, agreed


def test_two_ranks_agree_whatever_the_buckets(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        one, two = pool.map(_on_a_rank, range(2), [str(tmp_path / "store")] * 2)
    expected = [b if a is None else a + b for a, b in zip(_gradients(0), _gradients(1), strict=True) if b is not None]
    for sums in (*one[0], *two[0]):
        assert all(torch.equal(found, wanted) for found, wanted in zip(sums, expected, strict=True))
    assert one[1] == two[1] > 1.0
    assert one[2] == two[2] == [2.0, 0.0, True, False, ["rank 0", "rank 1"]]


def test_one_process_agrees_with_itself() -> None:
    ranks, parameters = Ranks(), _parameters(0)
    ranks.sum_gradients(parameters)
    assert [p.grad is None for p in parameters] == [g is None for g in _gradients(0)]
    assert (ranks.sum(2.5), ranks.most(2.5), ranks.any(True), ranks.each("x")) == (2.5, 2.5, True, ["x"])


def test_buckets_keep_order_size_and_data_type() -> None:
    small, large, half = torch.zeros(4), torch.zeros(100), torch.zeros(4).half()
    made = list(buckets([small, small, small, large, small, half, half], 40))
    assert [[len(gradient) for gradient in bucket] for bucket in made] == [[4, 4], [4], [100], [4], [4, 4]]
    assert list(buckets([], 40)) == []
