"""Tests of run directories: no run writes over another one, and every result says what it is of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.refusals import refusal, run_dir, to_stderr
from vlm_lit.cli import main
from vlm_lit.commands.run_place import check_free
from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import file_sha256

Config = Callable[..., Path]


def typed(verb: str, *words: object) -> None:
    assert main([verb, *map(str, words)]) == 0


def results(folder: Path, name: str = "results.json") -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / name).read_text())
    return found


def whole(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def finished(config: Config) -> Path:
    """The config of a run that is trained and tested."""
    path = config(trainer={"limit_val_batches": 0})
    typed("fit", "--config", path)
    typed("test", "--config", path, "--ckpt_path", "last")
    return path


# A second fit ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_fit_is_refused_and_changes_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = whole(run_dir(finished))
    error = refusal(capsys, "fit", "--config", str(finished))
    assert "holds a run already (adapter, checkpoints, predictions.jsonl, results.json)" in error
    for way in ("--ckpt_path last (from step-000003.ckpt)", "--overwrite", "--run_dir"):
        assert way in error
    assert whole(run_dir(finished)) == before


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("left", ["results.json", "adapter", "checkpoints"])
def test_each_part_of_a_run_is_one(left: str, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in run_dir(finished).iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert f"holds a run already ({left})" in refusal(capsys, "fit", "--config", str(finished))


@pytest.mark.slow
def test_overwrite_deletes_what_a_run_wrote_and_nothing_else(finished: Path) -> None:
    run = run_dir(finished)
    own = ["notes.txt", "adapter/readme.txt", "checkpoints/my.ckpt", "inspect.html", "predictions.backup.jsonl"]
    for name in own:
        (run / name).write_text("mine")
    typed("fit", "--config", finished, "--overwrite", "--trainer.max_steps=2")
    left = whole(run)
    assert {name for name in left if left[name] == b"mine"} == set(own)
    rest = {name for name in left if name not in own and "tfevents" not in name}
    assert rest == {
        "config.yaml", "hparams.yaml", "checkpoints/step-000002.ckpt", "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json", "adapter/fingerprint.json", "adapter/README.md",
    }  # fmt: skip
    assert sum("tfevents" in name for name in left) == 2  # the curves, and the table of hyperparameters
    assert "overwrite" not in yaml.safe_load(left["config.yaml"])


@pytest.mark.slow
def test_a_refused_overwrite_deletes_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = whole(run_dir(finished))
    words = ("fit", "--config", str(finished), "--overwrite")
    assert "nowhere.json" in refusal(capsys, *words, "--data.init_args.train.path=nowhere.json")
    assert "Give one of the two" in refusal(capsys, *words, "--ckpt_path", "last")
    assert whole(run_dir(finished)) == before


@pytest.mark.slow
def test_another_runs_checkpoint_does_not_open_a_run_that_is_there(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_dir(finished), other)
    kept = other / "checkpoints" / "step-000003.ckpt"
    assert "holds a run already" in refusal(capsys, "fit", "--config", str(finished), "--ckpt_path", str(kept))


@pytest.mark.parametrize("written", ["one.ckpt", "../checkpoints/one.ckpt", "kept/../one.ckpt"])
@pytest.mark.parametrize("by", ["run", "link", "run/../run"])
def test_a_checkpoint_is_of_its_run_however_the_paths_are_written(
    by: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / "checkpoints" / "kept").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "step-000001.ckpt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for named in (Path("run"), tmp_path / "run", tmp_path / "link"):
        check_free(named, Path(by) / "checkpoints" / written)
        check_free(named, tmp_path / by / "checkpoints" / written)
        with pytest.raises(ConfigError, match="holds a run already"):
            check_free(named, tmp_path / "other" / "checkpoints" / written)


def test_checkpoints_may_lie_on_another_disk(tmp_path: Path) -> None:
    run, disk = tmp_path / "run", tmp_path / "disk" / "of_run"
    disk.mkdir(parents=True)
    (disk / "step-000001.ckpt").touch()
    run.mkdir()
    (run / "checkpoints").symlink_to(disk)
    check_free(run, run / "checkpoints" / "step-000001.ckpt")


@pytest.mark.slow
def test_a_time_in_the_name_makes_a_folder_each_time(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ("--config", finished, "--run_dir", tmp_path / "runs" / "{time}")
    typed("fit", *named, "--trainer.max_steps=1")
    monkeypatch.setenv("VLM_LIT_RUN_TIME", "2999-12-31_23-59-59")
    typed("fit", *named, "--trainer.max_steps=2")
    first, second = sorted((tmp_path / "runs").iterdir())
    assert second.name == "2999-12-31_23-59-59"
    assert yaml.safe_load((second / "config.yaml").read_text())["run_dir"] == str(second)
    monkeypatch.delenv("VLM_LIT_RUN_TIME")
    typed("test", *named, "--ckpt_path", "last")  # the newest run's
    assert results(second)["global_step"] == 2
    assert not (first / "results.json").exists()
    assert "the only field it can have is {time}" in refusal(
        capsys, "fit", "--config", str(finished), "--run_dir", str(tmp_path / "{name}")
    )


# Results ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_verb_that_answers_has_its_own_files(finished: Path, small: Path) -> None:
    run = run_dir(finished)
    before = whole(run)
    typed("validate", "--config", finished, "--ckpt_path", "last", "--trainer.limit_val_batches=1.0")
    asked = f"--data.init_args.predict.path={small / 'val.json'}"
    typed("predict", "--config", finished, "--ckpt_path", "last", asked)
    after = whole(run)
    assert {name: after.get(name) for name in before} == before
    new = {name for name in after.keys() - before.keys() if "tfevents" not in name}
    assert new == {
        "val_predictions.jsonl", "val_results.json", "config.validate.yaml", "predict_predictions.jsonl",
        "predict_results.json", "config.predict.yaml",
    }  # fmt: skip
    typed("compare", run, run, "--names", "one,two", "--output", run.parent / "page")


@pytest.mark.slow
def test_results_say_which_step_and_weights_they_are_of(finished: Path, tmp_path: Path) -> None:
    run = run_dir(finished)
    kept = run / "checkpoints" / "step-000003.ckpt"
    assert results(run)["weights"] == {"checkpoint": str(kept)}
    assert results(run)["global_step"] == 3
    elsewhere = ("--config", finished, "--run_dir", tmp_path / "other")
    typed("test", *elsewhere, f"--model.init_args.adapter={run / 'adapter'}")
    digest = file_sha256(run / "adapter" / "adapter_model.safetensors")
    assert results(tmp_path / "other")["weights"] == {"adapter": str(run / "adapter"), "sha256": digest}
    assert results(tmp_path / "other")["global_step"] == 3, "as the adapter's fingerprint says"
    typed("test", *elsewhere)
    base = results(tmp_path / "other")
    assert base["global_step"] == 0
    assert base["weights"] == {"base": base["model_id"]}


@pytest.mark.slow
def test_an_evaluation_of_something_else_leaves_the_earlier_one(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_dir(finished)
    earlier = {name: found for name, found in whole(run).items() if "predictions" in name or "results" in name}
    to_stderr()
    typed("test", "--config", finished, "--ckpt_path", "last", "--data.init_args.eval_batch=2")
    assert not (run / "earlier").exists(), "the same evaluation replaces itself"
    typed("test", "--config", finished)
    said = capsys.readouterr().err
    assert "test takes the base model as it is" in said
    assert f"are now in {run / 'earlier' / 'test-1'}" in said
    moved = whole(run / "earlier" / "test-1")
    assert {name: moved[name] for name in earlier} == earlier
    typed("test", "--config", finished, "--data.init_args.blind=shuffle")
    assert (run / "earlier" / "test-2" / "results.json").is_file()
    typed("compare", run / "earlier" / "test-1", run, "--output", run.parent / "page")


@pytest.mark.slow
def test_a_new_adapter_never_lies_beside_old_results(finished: Path) -> None:
    run = run_dir(finished)
    typed("fit", "--config", finished, "--ckpt_path", "last", "--trainer.max_epochs=2")
    assert not (run / "results.json").exists()
    assert results(run / "earlier" / "test-1")["global_step"] == 3


# From a run ----------------------------------------------------------------------------------------------


def evaluated(run: Path, verb: str) -> Path:
    (found,) = run.glob(f"{verb}-*")
    return found


def test_from_a_run_takes_its_config_and_weights_and_a_folder_of_its_own(
    finished: Path, small: Path, tmp_path: Path
) -> None:
    run = run_dir(finished)
    before = whole(run)
    finished.unlink()  # the run's own is enough
    typed("test", "--from", run)
    typed("validate", "--from", run, "--trainer.limit_val_batches=1.0")
    typed("predict", f"--from={run}", f"--data.init_args.predict.path={small / 'val.json'}")
    after = whole(run)
    assert {name: after[name] for name in before} == before
    folder = evaluated(run, "test")
    assert (folder / "predictions.jsonl").read_bytes() == before["predictions.jsonl"]
    assert results(folder)["weights"] == {"checkpoint": str(run / "checkpoints" / "step-000003.ckpt")}
    assert results(evaluated(run, "validate"), "val_results.json")["global_step"] == 3
    assert (evaluated(run, "predict") / "predict_predictions.jsonl").is_file()
    typed("compare", run, folder, "--output", tmp_path / "page")


@pytest.mark.slow
def test_from_a_run_with_further_options_on_top(finished: Path, small: Path, tmp_path: Path) -> None:
    run, blind = run_dir(finished), tmp_path / "blind"
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("model:\n  init_args:\n    max_new_tokens: 2\n")
    test_set = f"--data.init_args.test.path={small / 'train.json'}"
    typed("test", "--from", run, "--run_dir", blind, "--config", overlay, "--data.init_args.blind=shuffle", test_set)
    written = yaml.safe_load((blind / "config.test.yaml").read_text())
    assert written["data"]["init_args"]["blind"] == "shuffle"
    assert written["model"]["init_args"]["max_new_tokens"] == 2
    assert results(blind)["n"] == 40  # two answers in each of 20 records
    assert not list(run.glob("test-*"))


@pytest.mark.slow
def test_from_a_run_without_checkpoints_takes_its_adapter(finished: Path) -> None:
    run = run_dir(finished)
    shutil.rmtree(run / "checkpoints")
    typed("test", "--from", run)
    folder = evaluated(run, "test")
    assert results(folder)["weights"]["adapter"] == str(run / "adapter")  # type: ignore[index]
    assert (folder / "predictions.jsonl").read_bytes() == (run / "predictions.jsonl").read_bytes()


@pytest.mark.slow
def test_no_checkpoint_is_never_answered_by_the_untrained_base(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, config = run_dir(finished), ("--config", str(finished))
    for verb in ("test", "validate", "predict"):
        error = refusal(capsys, verb, *config, "--run_dir", str(run.parent / "rum"), "--ckpt_path", "last")
        assert "without" not in error
        assert "leave" not in error
        assert f"There are checkpoints in {run}." in error
    shutil.rmtree(run / "checkpoints")
    error = refusal(capsys, "test", *config, "--ckpt_path", "last")
    assert f"It holds an adapter: use it by --model.init_args.adapter={run / 'adapter'}." in error
    error = refusal(capsys, "test", "--from", str(tmp_path / "none"))
    assert f"there is no {tmp_path / 'none' / 'config.yaml'}" in error
    assert "from is not an option" in refusal(capsys, "fit", "--from", str(run))
