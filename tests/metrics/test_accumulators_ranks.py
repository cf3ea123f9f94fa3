"""Tests of metrics over ranks: two real processes (gloo) compute what one computes."""

import warnings
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.catalogue import metric as metric_named

WORLD_SIZE = 2

# Rank 1 repeats id "a" as a distributed sampler does, and has groups that rank 0 never meets.
FIRST = (["red", "blue"], [["red"], ["red"]], ["a", "b"], [{"kind": "colour"}, {}])
SECOND = (["7", "red", "8"], [["7"], ["red"], ["7"]], ["c", "a", "d"], [{"kind": "number"}, {"kind": "colour"}, {}])
SHARDS = (FIRST, SECOND)
ALL = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}


def on_each_rank(rank: int, store: str) -> dict[str, Any]:
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD_SIZE, timeout=timedelta(seconds=60)
    )
    metric = metric_named("exact_match")
    metric.update(*SHARDS[rank])
    found: dict[str, Any] = {"value": metric.compute(), "own": metric.per_item()}
    with metric.sync_context():
        found["all"] = metric.per_item()
    found["one_rank_empty"] = value_with_an_empty_rank(rank)
    found["conflict"] = message_of_a_conflict(rank)
    dist.destroy_process_group()
    return found


def value_with_an_empty_rank(rank: int) -> dict[str, float]:
    metric = metric_named("exact_match")
    if rank == 0:
        metric.update(*FIRST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns of compute before update, which is what this tries
        return metric.compute()


def message_of_a_conflict(rank: int) -> str:
    metric = metric_named("exact_match")
    metric.update([str(rank)], [["0"]], ["same id"])
    with pytest.raises(VlmLitError) as caught:
        metric.compute()
    return str(caught.value)


def test_two_ranks_agree_with_one(tmp_path: Path) -> None:
    with ProcessPoolExecutor(WORLD_SIZE, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(on_each_rank, range(WORLD_SIZE), [str(tmp_path / "store")] * WORLD_SIZE))
    alone = metric_named("exact_match")
    for shard in SHARDS:
        alone.update(*shard)
    expected = alone.compute()
    assert expected == {"overall": 0.5, "kind/colour": 1.0, "kind/number": 1.0}
    assert [found["own"] for found in results] == [{"a": 1.0, "b": 0.0}, {"c": 1.0, "a": 1.0, "d": 0.0}]
    for found in results:
        assert found["value"] == expected
        assert found["all"] == ALL
        assert found["one_rank_empty"] == {"overall": 0.5, "kind/colour": 1.0}
        assert "'same id' came twice" in found["conflict"]
