"""Tests of memory: a step without enough of it ends the same in smaller pieces; the most that fits is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.runs import checkpoint, fit, run_dir, scalars
from vlm_lit.errors import VlmLitError
from vlm_lit.schema import TokenBatch
from vlm_lit.training.memory import is_out_of_memory, most_rows
from vlm_lit.training.supervised import SupervisedModule

CPU = torch.device("cpu")


def allocate_too_much() -> None:
    """A real refusal by the real allocator: no machine has a petabyte."""
    torch.empty(2**50, dtype=torch.uint8)


@pytest.fixture
def room_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes a forward pass of more rows than given ask for more memory than there is."""
    loss = SupervisedModule.loss

    def limit(rows: int) -> None:
        def hungry(self: SupervisedModule, batch: TokenBatch) -> Tensor:
            if len(batch.labels) > rows:
                allocate_too_much()
            return loss(self, batch)

        monkeypatch.setattr(SupervisedModule, "loss", hungry)

    return limit


def test_the_allocators_own_words_are_understood() -> None:
    with pytest.raises(RuntimeError) as error:
        allocate_too_much()
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_step_out_of_memory_is_redone_in_halves_with_the_same_result(
    workers: int, config: Callable[..., Path], room_for: Callable[[int], None]
) -> None:
    path = config(data={"micro_batch": 8, "num_workers": workers})
    expected = fit(path, f"--run_dir={run_dir(path)}/small", "--data.init_args.micro_batch=2")
    room_for(2)
    with pytest.warns(UserWarning, match="Out of memory") as warned:
        found = fit(path)
    assert [str(w.message).split(".")[0] for w in warned if "memory" in str(w.message)] == [
        "Out of memory with 8 rows at step 0; micro_batch is now 4",
        "Out of memory with 4 rows at step 0; micro_batch is now 2",
    ]
    losses, small = scalars(run_dir(path)), scalars(run_dir(path) / "small")
    assert [value for _, value in losses["train/micro_batch"]] == [2.0] * found.trainer.global_step
    assert found.trainer.global_step == expected.trainer.global_step == 3
    for (_, one), (_, other) in zip(losses["train/loss"], small["train/loss"], strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    weights, same = (checkpoint(folder, 3)["state_dict"] for folder in (run_dir(path), run_dir(path) / "small"))
    for name, weight in weights.items():
        torch.testing.assert_close(weight, same[name], rtol=1e-5, atol=1e-6)


def test_a_single_row_that_does_not_fit_is_the_users_to_mend(
    config: Callable[..., Path], room_for: Callable[[int], None]
) -> None:
    room_for(0)
    with pytest.raises(VlmLitError, match=r"Out of memory at step 0 with a single row .*Lower max_length"):
        fit(config(data={"micro_batch": 1}))


def test_other_errors_are_not_taken_for_it(config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_module: SupervisedModule, _batch: TokenBatch) -> Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(SupervisedModule, "loss", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit(config())


@pytest.mark.slow
def test_the_most_rows_that_fit_are_found_and_leave_no_trace(
    config: Callable[..., Path], room_for: Callable[[int], None]
) -> None:
    path = config(data={"micro_batch": 4})
    expected = fit(path, f"--run_dir={run_dir(path)}/four")
    room_for(5)
    found = fit(path, "--data.init_args.micro_batch=auto")
    assert found.datamodule.micro_batch.rows == 4
    first, same = (scalars(folder)["train/loss"][0][1] for folder in (run_dir(path), run_dir(path) / "four"))
    assert first == pytest.approx(same, rel=1e-6)  # the probe moved nothing
    assert expected.trainer.global_step == found.trainer.global_step


@pytest.mark.slow
def test_the_search_multiplies_as_the_run_does(config: Callable[..., Path]) -> None:
    bf16 = {"precision": "bf16"}
    parts = {"vision_tower": bf16, "projector": {**bf16, "training": "full"}, "language_model": bf16, "head": bf16}
    path = config(data={"micro_batch": "auto"}, model={"parts": parts}, trainer={"precision": "bf16-mixed"})
    assert fit(path).trainer.global_step == 3


@pytest.mark.parametrize(("room", "most", "found"), [(0, 8, 1), (1, 8, 1), (3, 8, 2), (8, 8, 8), (100, 6, 4)])
def test_powers_of_two_are_tried(room: int, most: int, found: int) -> None:
    tried: list[int] = []

    def step(rows: int) -> None:
        tried.append(rows)
        if rows > room:
            allocate_too_much()

    assert most_rows(step, most, CPU) == found
    assert tried == sorted(tried)
    assert max(tried) <= most


def test_a_micro_batch_that_cannot_be_is_refused(config: Callable[..., Path]) -> None:
    with pytest.raises(VlmLitError, match=re.escape("micro_tokens is 0")):
        fit(config(data={"micro_tokens": 0}))
