"""Tests of streamed WebDataset shards over ranks: two read half of them each, and train as one does, killed or not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.support import rank_runs, shards, small_config, tiny_models
from tests.support.interrupted import Kill, arm
from tests.support.rank_runs import Job
from tests.support.rank_table import NoteRanks
from tests.support.runs import scalars
from vlm_lit.data.records import tar_samples

DDP = "--trainer.strategy=ddp"
COUNT, SIDE, STEPS = 20, 40, 8


@dataclass(frozen=True)
class Runs:
    """Runs of one config into folders of their own."""

    root: Path
    config: Path

    def words(self, name: str, ranks: int, *more: str) -> tuple[str, ...]:
        """The command of one."""
        strategy = () if ranks == 1 else (DDP, f"--trainer.devices={ranks}")
        return ("fit", "--config", str(self.config), "--run_dir", str(self.root / name), *strategy, *more)

    def losses(self, name: str) -> list[float]:
        """Its losses, one a step."""
        return [value for _, value in scalars(self.root / name)["train/loss"]]

    def adapter(self, name: str) -> dict[str, Tensor]:
        """What it has trained."""
        return load_file(self.root / name / "adapter" / "adapter_model.safetensors")

    @contextmanager
    def counted(self, rank: int) -> Iterator[None]:
        """Whatever a rank reads of samples is counted, in a file of the rank's."""
        really, read = tar_samples._bytes_of, 0

        def counting(file: object, member: tar_samples.Member) -> object:
            nonlocal read
            read += member.size
            return really(file, member)

        tar_samples._bytes_of = counting  # type: ignore[assignment]
        try:
            yield
        finally:
            tar_samples._bytes_of = really
            (self.root / f"read_by_{rank}").write_text(str(read))


@contextmanager
def _killed_in_step_3(rank: int) -> Iterator[None]:
    if rank == 1:
        arm(Kill(at="vlm_lit.training.step:StepModule.training_step", call=4))
    yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One by one rank, by two, and by two of which one was killed."""
    root = tmp_path_factory.mktemp("streams")
    pattern = shards.write_shards(root / "data", COUNT, 2, side=SIDE)
    config = small_config.write(
        root,
        tiny_models.save_llava(root / "llava"),
        root / "data",
        model={"optimizer": {"class_path": "torch.optim.SGD"}, "learning_rate": 0.05},
        data={
            "train": {"path": pattern, "streaming": True},
            "val": None,
            "test": None,
            "effective_batch": 4,
            "micro_batch": 1,
        },
        trainer={
            "max_steps": STEPS,
            "max_epochs": None,
            "callbacks": [rank_runs.keeper(1), "vlm_lit.training.callbacks.lost_ranks.LostRanks"],
        },
    )
    made = Runs(root, config)
    rank_runs.finished(1, [Job(words=made.words("one", 1))], root / "said_one")
    job = Job(words=made.words("two", 2), tampering=made.counted)
    rank_runs.finished(2, [job], root / "said_two")
    killed = Job(words=made.words("killed", 2), tampering=_killed_in_step_3)
    assert rank_runs.typed(2, [killed], root / "said_killed", seconds=120)[1] == -9
    return made


def _far(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[k] - w).abs().max() / w.abs().max().clamp(min=1e-6)) for k, w in expected.items())


@pytest.mark.slow
def test_two_ranks_train_as_one_does_and_read_half_each(runs: Runs, note_ranks: NoteRanks) -> None:
    assert len(runs.losses("one")) == STEPS
    assert runs.losses("two") == pytest.approx(runs.losses("one"), rel=1e-5)
    far = _far(runs.adapter("two"), runs.adapter("one"))
    note_ranks("supervised, streamed shards", "ddp, 2", "adapter with one rank", f"{far:.1e}")
    assert far < 1e-5
    drawn = STEPS * 4 * len(shards.noise(0, SIDE))
    read = [int((runs.root / f"read_by_{rank}").read_text()) for rank in range(2)]
    first = 4 * len(shards.noise(0, SIDE))  # rank 0 looks at the whole first step, to say what of it is not used
    assert read[0] == pytest.approx(drawn / 2 + first / 2, rel=0.05)
    assert read[1] == pytest.approx(drawn / 2, rel=0.05)


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_killed_run_goes_on_with_any_number_of_ranks(ranks: int, runs: Runs, note_ranks: NoteRanks) -> None:
    name = f"resumed{ranks}"
    shutil.copytree(runs.root / "killed", runs.root / name)
    job = Job(words=runs.words(name, ranks, "--ckpt_path=last"))
    rank_runs.finished(ranks, [job], runs.root / f"said_{name}")
    whole = "two" if ranks == 2 else "one"
    assert runs.losses(name) == pytest.approx(runs.losses(whole), rel=0 if ranks == 2 else 1e-5)
    far = _far(runs.adapter(name), runs.adapter(whole))
    note_ranks("supervised, streamed shards", f"ddp, 2 then {ranks}", "adapter with never killed", f"{far:.1e}")
    assert far == 0 if ranks == 2 else far < 1e-5
