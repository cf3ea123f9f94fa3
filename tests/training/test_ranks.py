"""Tests of equality 5 (sharded): two processes are one, on the same step batches and questions.

Real processes over gloo. The last step batch of a pass has one conversation, so one of the two ranks has none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.runs import predictions, scalars
from vlm_lit.training.pair_figures import FIGURES

pytestmark = pytest.mark.slow
RANKS = ("--trainer.strategy=ddp", "--trainer.devices=2")


def run(verb: str, config: Path, folder: Path, *more: str) -> None:
    words = [sys.executable, "-m", "vlm_lit", verb, "--config", str(config), "--run_dir", str(folder), *more]
    # Ranks that wait for each other wait for ever: the limit is what sees it.
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "sync_dist" not in done.stderr  # advice of Lightning's about values that all ranks agree on


@pytest.fixture(scope="module")
def of_kinds() -> dict[object, dict[int, Path]]:
    return {}


@pytest.fixture
def runs(
    either_config: partial[Path], tmp_path_factory: pytest.TempPathFactory, of_kinds: dict[object, dict[int, Path]]
) -> dict[int, Path]:
    # By number of ranks: a fit and the test of what it has trained. 13 conversations are steps of 4, 4, 4 and 1.
    folders = of_kinds.setdefault(either_config.func, {})
    if not folders:
        data_set = either_config.args[2]
        path = either_config(
            # A gradient enters SGD's step as it is; Adam's would blow up the rounding of entries near zero.
            model={"optimizer": {"class_path": "torch.optim.SGD"}, "learning_rate": 0.05},
            data={
                "train": {"path": str(data_set / "train.json"), "limit": 13},
                "test": {"path": str(data_set / "val.json"), "limit": 5},
                "effective_batch": 4,
                "micro_batch": 1,
                "eval_batch": 2,
            },
            trainer={"max_epochs": 2},
        )
        for ranks, more in ((1, ()), (2, RANKS)):
            folder = tmp_path_factory.mktemp(f"ranks{ranks}")
            run("fit", path, folder, *more)
            # The same weights on both, so that answers may be compared letter by letter.
            adapter = f"--model.init_args.adapter={folders.get(1, folder) / 'adapter'}"
            run("test", path, folder, adapter, *more)
            folders[ranks] = folder
    return folders


def test_equality_5_losses_and_gradient_norms(runs: dict[int, Path]) -> None:
    one, two = scalars(runs[1]), scalars(runs[2])
    pairs = [f"train/{name}" for name in FIGURES if f"train/{name}" in one]
    for name in ("train/loss", "train/gradient_norm", *pairs):
        assert [step for step, _ in two[name]] == list(range(8))
        # float32 sums in another order: 1e-5 is some 80 rounding steps, over eight optimizer steps.
        assert [v for _, v in two[name]] == pytest.approx([v for _, v in one[name]], rel=1e-5, abs=1e-6), name
    assert two["train/learning_rate/projector"] == one["train/learning_rate/projector"]
    # Sums over the ranks' step batches: six records in step batches of two, of which one rank has four.
    measured = "val/vqa_accuracy" if pairs else "val/loss"
    assert len(one[measured]) == len(two[measured]) == 2
    assert [value for _, value in two[measured]] == pytest.approx([value for _, value in one[measured]], rel=1e-5)


def test_equality_5_trained_weights(runs: dict[int, Path]) -> None:
    one, two = (load_file(runs[n] / "adapter" / "adapter_model.safetensors") for n in (1, 2))
    assert set(one) == set(two)
    for name, weights in one.items():
        # As above; entries far smaller than the tensor's largest carry the rounding of that one.
        torch.testing.assert_close(two[name], weights, rtol=1e-5, atol=1e-5 * float(weights.abs().max()))


def test_equality_5_answers_in_the_files_order_none_twice(runs: dict[int, Path]) -> None:
    assert [row["id"] for row in predictions(runs[2])] == [f"val{i}" for i in range(5)]
    assert predictions(runs[2]) == predictions(runs[1])
    one, two = (json.loads((runs[n] / "results.json").read_text()) for n in (1, 2))
    assert (two["n"], two["metrics"]) == (one["n"], one["metrics"])
    assert (runs[2] / "confusion.json").read_text() == (runs[1] / "confusion.json").read_text()
