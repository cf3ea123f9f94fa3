"""Fixtures of several test files: a tiny checkpoint, a small data set, a run through the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

# For torch here and in the processes that tests start. Tiny matrices: a second thread costs more than it computes, and
# where other tests run beside these, much more. Sums are then of one order too, which equal runs need.
os.environ["OMP_NUM_THREADS"] = "1"

import torch

from tests.support import small_config, small_data, tiny_models
from tests.support.pairs import preference_config, write_folder

pytest_plugins = [
    "tests.support.deadline",
    "tests.support.family_table",
    "tests.support.postgres",
    "tests.support.rank_table",
    "tests.support.slurm",
]

torch.set_num_threads(1)  # where a plugin has loaded torch before this file


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what -m does not name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU where there is none, and keep the first case of what is slow but for that one."""
    begun = set[str]()
    for item in items:
        marks = list(item.iter_markers("slow"))
        test = item.nodeid.partition("[")[0]
        if marks and all(mark.kwargs.get("but_first") for mark in marks) and test not in begun:
            item.own_markers = [mark for mark in item.own_markers if mark.name != "slow"]
            begun.add(test)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of the tiny LLaVA."""
    return tiny_models.save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json (20 conversations) and val.json (6 questions)."""
    folder = tmp_path_factory.mktemp("small")
    small_data.write_conversations(folder, 20, prefix="train")
    small_data.write_conversations(folder, 6, turns=1, prefix="val")
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json (20 pairs of answers) and val.json (6 questions)."""
    return write_folder(tmp_path_factory.mktemp("preferences"), "questions")


@pytest.fixture
def config(tiny_llava: Path, small: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a runnable config: NF4 language model with LoRA, projector in full, dropout off. Returns its path."""
    return partial(small_config.write, tmp_path, tiny_llava, small)


@pytest.fixture(params=["supervised", "preference"])
def either_config(
    request: pytest.FixtureRequest, tiny_llava: Path, small: Path, pairs: Path, tmp_path: Path
) -> Callable[..., Path]:
    """The same of supervised fine-tuning, and of a preference run over pairs that is validated by questions."""
    if request.param == "supervised":
        return partial(small_config.write, tmp_path, tiny_llava, small)
    return partial(preference_config, tmp_path, tiny_llava, pairs)
