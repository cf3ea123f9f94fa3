"""Tests of runs with a split base that do not go as planned: memory runs out, a rank dies, other ranks go on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaMLP

from tests.support import rank_runs, small_config, tiny_models
from tests.support.interrupted import Kill, arm
from tests.support.rank_runs import Job
from tests.support.rank_table import NoteRanks
from tests.support.runs import scalars
from vlm_lit.training.rank_links import STATUS

SPLIT = ("--trainer.strategy=frozen_sharded",)
TWO = (*SPLIT, "--trainer.devices=2")


@contextmanager
def one_row_fits(rank: int) -> Iterator[None]:
    """In rank 1 a layer of the language model has no memory for two rows; a real refusal by the real allocator."""
    forward = LlamaMLP.forward

    def hungry(self: LlamaMLP, x: Tensor) -> Tensor:
        if x.shape[0] > 1:
            print("no room for two rows", flush=True)
            torch.empty(2**50, dtype=torch.uint8)
        found: Tensor = forward(self, x)
        return found

    if rank == 1:
        LlamaMLP.forward = hungry
    try:
        yield
    finally:
        LlamaMLP.forward = forward


@contextmanager
def killed_in_step_5(rank: int) -> Iterator[None]:
    """Rank 1 has two micro-batches in each step but the fourth, the last of an epoch, of which it has the only one."""
    if rank == 1:
        arm(Kill(at="vlm_lit.training.step:StepModule._backward", call=10))
    yield


@dataclass(frozen=True)
class Runs:
    """Runs of one config into folders of their own."""

    root: Path
    config: Path

    def words(self, name: str, *more: str) -> tuple[str, ...]:
        """The command of one."""
        return ("fit", "--config", str(self.config), "--run_dir", str(self.root / name), *more)

    def copied(self, name: str) -> tuple[str, ...]:
        """The command that goes on from a copy of the killed run."""
        shutil.copytree(self.root / "killed", self.root / name)
        return self.words(name, "--ckpt_path=last")

    def said(self, name: str, rank: int = 0) -> str:
        """What a rank has said in a launch."""
        return rank_runs.said(self.root / f"said_{name}", rank)

    def losses(self, name: str) -> list[float]:
        """The losses of one."""
        return [value for _, value in scalars(self.root / name)["train/loss"]]

    def adapter(self, name: str) -> dict[str, Tensor]:
        """The trained weights of one."""
        return load_file(self.root / name / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One by one rank, and by two ranks with a split base: one, one with less memory, and one that was killed."""
    root = tmp_path_factory.mktemp("split")
    sgd: small_config.Settings = {"optimizer": {"class_path": "torch.optim.SGD"}, "learning_rate": 0.05}
    steps: small_config.Settings = {"effective_batch": 4, "micro_batch": 1, "eval_batch": 2, "packing": False}
    config = small_config.write(
        root,
        tiny_models.save_llava(root / "llava"),
        rank_runs.write_mixed(root / "mixed"),
        model=sgd,
        data=steps,
        trainer={
            "max_epochs": 2,
            "callbacks": [rank_runs.keeper(2), "vlm_lit.training.callbacks.lost_ranks.LostRanks"],
        },
    )
    runs = Runs(root, config)
    rank_runs.finished(1, [Job(words=runs.words("one"))], root / "said_one")
    two = ("--data.init_args.micro_batch=2", *TWO)
    jobs = [Job(words=runs.words("whole", *TWO)), Job(words=runs.words("hungry", *two), tampering=one_row_fits)]
    rank_runs.finished(2, jobs, root / "said_two")
    return runs


@pytest.fixture(scope="module")
def killed(runs: Runs) -> list[int | None]:
    """The statuses of the ranks of the killed run."""
    job = Job(words=runs.words("killed", *TWO), tampering=killed_in_step_5)
    return rank_runs.typed(2, [job], runs.root / "said_killed", seconds=60)


def _far(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[k] - w).abs().max() / w.abs().max().clamp(min=1e-6)) for k, w in expected.items())


@pytest.mark.slow
def test_a_rank_out_of_memory_halves_and_the_result_is_the_same(runs: Runs, note_ranks: NoteRanks) -> None:
    assert "no room for two rows" in runs.said("two", rank=1)
    assert "no room for two rows" not in runs.said("two", rank=0)
    assert "Rank 1 of 2: Out of memory with 2 rows at step 0; micro_batch is now 1." in runs.said("two", rank=1)
    assert [value for _, value in scalars(runs.root / "hungry")["train/micro_batch"]] == [2.0] * 8  # rank 0's
    assert runs.losses("hungry") == pytest.approx(runs.losses("one"), rel=1e-5)
    far = _far(runs.adapter("hungry"), runs.adapter("one"))
    note_ranks("supervised, a rank out of memory", "frozen_sharded, 2", "adapter with one rank", f"{far:.1e}")
    assert far < 1e-5


def test_the_others_end_with_a_sentence_where_one_is_killed(runs: Runs, killed: list[int | None]) -> None:
    assert killed == [STATUS, -9]
    assert runs.said("killed").count("error: Process 1 of 2 has died") == 1


@pytest.mark.usefixtures("killed")
def test_the_killed_run_goes_on_exactly(runs: Runs, note_ranks: NoteRanks) -> None:
    rank_runs.finished(2, [Job(words=(*runs.copied("resumed2"), *TWO))], runs.root / "said_resumed2")
    assert "was made by" not in runs.said("resumed2")
    assert runs.losses("resumed2") == runs.losses("whole")
    for name, weight in runs.adapter("whole").items():
        assert torch.equal(runs.adapter("resumed2")[name], weight), name
    note_ranks("supervised, killed and resumed", "frozen_sharded, 2 then 2", "all with never killed", "none")


@pytest.mark.slow(but_first=True)
@pytest.mark.usefixtures("killed")
@pytest.mark.parametrize("ranks", [1, 4])
def test_another_number_of_ranks_goes_on(ranks: int, runs: Runs, note_ranks: NoteRanks) -> None:
    name = f"resumed{ranks}"
    more = () if ranks == 1 else (*SPLIT, f"--trainer.devices={ranks}")
    rank_runs.finished(ranks, [Job(words=(*runs.copied(name), *more))], runs.root / f"said_{name}")
    word = f"was made by 2 ranks and this run has {ranks}: its step batches are the same"
    assert sum(runs.said(name, rank).count(word) for rank in range(ranks)) == 1
    assert runs.losses(name) == pytest.approx(runs.losses("one"), rel=1e-5)
    far = _far(runs.adapter(name), runs.adapter("one"))
    note_ranks(
        "supervised, killed and resumed", f"frozen_sharded, 2 then {ranks}", "adapter with one rank", f"{far:.1e}"
    )
    assert far < 1e-5


def test_a_base_that_is_all_trained_is_refused_before_its_weights_are_read(runs: Runs) -> None:
    bare = runs.root / "no_weights"
    shutil.copytree(runs.root / "llava", bare, ignore=shutil.ignore_patterns("*.safetensors"))
    changed = "--model.init_args.parts.language_model={precision: fp32, training: full}"
    words = (*runs.words("refused", *TWO), changed, f"--model.init_args.model_id={bare}")
    statuses = rank_runs.typed(2, [Job(words=words, status=2)], runs.root / "said_refused")
    assert 0 in statuses  # the other may see this one end before it has said the same
    said = runs.said("refused", 0) + runs.said("refused", 1)
    assert "error: trainer.strategy frozen_sharded splits the frozen base, and" in said
