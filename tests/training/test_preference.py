"""Tests of preference runs: what is trained, logged and refused, through the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.pairs import preference_config, write_folder
from tests.support.runs import fit, run_dir, scalars
from vlm_lit.training.pair_figures import FIGURES
from vlm_lit.training.preference import PreferenceModule

Config = Callable[..., Path]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json (20 pairs) and val.json (6 pairs)."""
    return write_folder(tmp_path_factory.mktemp("pairs"), "pairs")


@pytest.fixture
def preferring(tiny_llava: Path, measured: Path, tmp_path: Path) -> Config:
    """Writes a runnable config of a preference run. Returns its path."""
    return partial(preference_config, tmp_path, tiny_llava, measured)


def test_a_run_prefers_more_and_more_and_logs_it(preferring: Config) -> None:
    path = preferring(model={"warmup_ratio": 0.0, "learning_rate": 3e-3}, trainer={"max_epochs": 4})
    cli = fit(path)
    assert isinstance(cli.model, PreferenceModule)
    found = scalars(run_dir(path))
    for name in FIGURES:
        assert [step for step, _ in found[f"train/{name}"]] == list(range(12)), name
        assert len(found[f"val/{name}"]) == 4, name
    first, last = ({name: found[f"train/{name}"][k][1] for name in ("loss", *FIGURES)} for k in (0, -1))
    # Before the first step the policy is its own reference, to the bit.
    assert [first[name] for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "kl")] == [0.0] * 4
    assert first["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert last["loss"] < 0.65
    assert last["rewards/margins"] > 0.1
    assert found["train/rewards/accuracies"][-1][1] > 0.6
    assert found["val/loss"][-1][1] < found["val/loss"][0][1]
    assert 0 < first["lengths/chosen"] < first["lengths/rejected"]
