"""Tests of preference runs: what is trained, logged and refused, through the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.pairs import preference_config, write_folder
from tests.support.runs import fit, run_dir, scalars, verb
from vlm_lit.data.rows.pairs import PairBatch
from vlm_lit.errors import ConfigError
from vlm_lit.models.reference import Reference
from vlm_lit.objectives.preference_losses import PreferenceLossSettings
from vlm_lit.training.pair_figures import FIGURES, ChosenWatch, PairFigures
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_answers_to_questions_are_judged_alongside(tiny_llava: Path, pairs: Path, tmp_path: Path) -> None:
    path = preference_config(tmp_path, tiny_llava, pairs, trainer={"max_epochs": 2})
    cli = fit(path)
    found = scalars(run_dir(path))
    assert [step for step, _ in found["val/vqa_accuracy"]] == [2, 5]
    assert not {"val/loss", "val/rewards/chosen"} & found.keys()
    assert isinstance(cli.model, PreferenceModule)
    assert [one.id for one in cli.model.last_predictions] == [f"val{i}" for i in range(6)]


def test_rewards_have_the_beta_of_a_loss_that_has_one() -> None:
    simpo, sft = PreferenceLossSettings(name="simpo", beta=2.0), PreferenceLossSettings(name="sft")
    assert [PairFigures(losses).beta for losses in ([simpo, sft], [sft, simpo], [sft])] == [2.0, 2.0, 0.1]


@pytest.mark.slow
def test_losses_without_a_reference_never_ask_it(preferring: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: Reference) -> None:
        raise AssertionError

    monkeypatch.setattr(Reference, "in_place", never)
    losses = [{"name": "simpo", "beta": 2.0, "gamma": 1.0}, {"name": "sft", "weight": 0.1}]
    path = preferring(model={"losses": losses}, trainer={"limit_val_batches": 0})
    cli = fit(path)
    assert isinstance(cli.model, PreferenceModule)
    assert cli.model.losses == [
        PreferenceLossSettings(name="simpo", beta=2.0, gamma=1.0),
        PreferenceLossSettings(name="sft", weight=0.1),
    ]
    found = scalars(run_dir(path))
    assert "train/kl" not in found
    assert found["train/rewards/margins"][0][1] != 0.0


@pytest.mark.slow
def test_out_of_memory_halves_the_rows_and_changes_nothing(preferring: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    path = preferring(trainer={"limit_val_batches": 0}, data={"micro_batch": 3})
    whole = fit(path)
    kept = scalars(run_dir(path))
    loss, called = PreferenceModule.loss, list[int]()

    def small(self: PreferenceModule, batch: PairBatch) -> Tensor:
        called.append(len(batch.labels))
        found = loss(self, batch)
        if len(batch.labels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return found

    monkeypatch.setattr(PreferenceModule, "loss", small)
    with pytest.warns(UserWarning, match="Out of memory with"):
        cut = fit(path, "--overwrite")
    assert max(called) > 2
    assert (whole.datamodule.micro_batch.rows, cut.datamodule.micro_batch.rows) == (3, 1)
    found = scalars(run_dir(path))
    for name in ("loss", *FIGURES):
        # float32 sums in another order.
        ours, theirs = ([value for _, value in one[f"train/{name}"]] for one in (found, kept))
        assert ours == pytest.approx(theirs, rel=2e-4, abs=2e-5), name


@pytest.mark.slow
def test_a_run_that_begins_at_an_adapter_goes_on_with_that_adapter_alone(
    preferring: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = preferring(trainer={"limit_val_batches": 0})
    fit(first)
    start = tmp_path / "sft"
    (run_dir(first) / "adapter").rename(start)
    keeper = {"class_path": "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint"}
    path = preferring(model={"adapter": str(start)}, trainer={"limit_val_batches": 0, "callbacks": [keeper]})
    fit(path, "--run_dir", str(tmp_path / "dpo"))
    found = scalars(tmp_path / "dpo")
    assert found["train/rewards/margins"][0][1] == 0.0
    assert found["train/rewards/margins"][-1][1] != 0.0
    again = ["--run_dir", str(tmp_path / "dpo"), "--ckpt_path", "last", "--trainer.max_epochs", "2"]
    fit(path, *again)
    fit(preferring(model={"learning_rate": 3e-3}, trainer={"limit_val_batches": 0}), "--run_dir", str(tmp_path / "b"))
    (tmp_path / "b" / "adapter" / "adapter_model.safetensors").rename(start / "adapter_model.safetensors")
    path = preferring(model={"adapter": str(start)}, trainer={"limit_val_batches": 0, "callbacks": [keeper]})
    assert verb("fit", path, *again[:4], "--trainer.max_epochs", "3") == 2
    assert "reference_adapter" in capsys.readouterr().err


def test_it_warns_once_where_chosen_answers_become_less_likely_while_margins_rise() -> None:
    watch = ChosenWatch(steps=3)
    for _ in range(3):
        watch.see({"rewards/chosen": 0.1, "rewards/margins": 0.2})
    watch.see({"rewards/chosen": -0.1, "rewards/margins": 0.2})  # one step is noise
    watch.see({"rewards/chosen": 0.0, "rewards/margins": 0.2})
    with pytest.warns(UserWarning, match=r"are less likely than at the start.*Add \{name: sft\}"):
        watch.see({"rewards/chosen": -0.4, "rewards/margins": 0.2})
    watch.see({"rewards/chosen": -0.4, "rewards/margins": 0.2})
    with pytest.warns(UserWarning, match=r"Raise the weight of \{name: sft\}"):
        ChosenWatch(steps=1, sft=True).see({"rewards/chosen": -0.4, "rewards/margins": 0.2})
    falling = ChosenWatch(steps=2)
    for _ in range(4):
        falling.see({"rewards/chosen": -0.4, "rewards/margins": -0.1})


@pytest.mark.slow
def test_figures_of_pairs_can_be_monitored(preferring: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = preferring()
    assert verb("fit", path, "--keep_best", "val/rewards/accuracies", "--trainer.max_steps", "1") == 0
    assert verb("fit", path, "--keep_best", "val/rewards/accuracy", "--overwrite") == 2
    assert "val/rewards/accuracies" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([], "model.losses is empty"),
        ([{"name": "sigmoid", "weight": -1.0}], "weight of the loss sigmoid is -1.0"),
        ([{"name": "ipo", "gamma": 1.0}], "gamma acts in the loss simpo alone"),
        ([{"name": "dpo"}], "dpo"),
    ],
)
def test_losses_that_cannot_be_are_refused(
    losses: list[dict[str, object]], said: str, preferring: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb("fit", preferring(model={"losses": losses})) == 2
    assert said in capsys.readouterr().err
    with pytest.raises(ConfigError, match=said):
        PreferenceModule("x", losses=losses)  # type: ignore[arg-type]


@pytest.mark.slow
def test_features_from_the_cache_give_the_same_run(preferring: Config, tmp_path: Path) -> None:
    path = preferring(data={"val": None})
    fit(path, "--run_dir", str(tmp_path / "live"))
    fit(path, "--run_dir", str(tmp_path / "kept"), f"--data.init_args.feature_cache={tmp_path / 'features'}")
    live, kept = (scalars(tmp_path / name) for name in ("live", "kept"))
    for name in ("loss", "gradient_norm", *FIGURES):
        ours, theirs = ([value for _, value in run[f"train/{name}"]] for run in (kept, live))
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5), name
    assert any((tmp_path / "features").rglob("*.safetensors"))


def test_records_of_pairs_are_checked_ahead(preferring: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("check", preferring(), "--split", "train", "--split", "val") == 0
    assert "all 20 records can be used" in capsys.readouterr().err
