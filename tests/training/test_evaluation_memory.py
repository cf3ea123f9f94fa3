"""Tests of evaluations and optimizer steps without enough memory: done again in smaller parts, with the same result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.class_runs import checkpoint as vilt_checkpoint
from tests.support.class_runs import write_config, write_questions
from tests.support.pairs import preference_config, write_folder
from tests.support.refusals import refusal
from tests.support.runs import checkpoint, predictions, run_dir, scalars, verb
from vlm_lit.schema import PromptBatch, Reply
from vlm_lit.training.answered import AnsweredModule
from vlm_lit.training.classifier import ClassifierModule
from vlm_lit.training.preference import PreferenceModule

Config = Callable[..., Path]
pytestmark = pytest.mark.filterwarnings("ignore:Out of memory")  # each halving says so


def allocate_too_much() -> None:
    """A real refusal by the real allocator: no machine has a petabyte."""
    torch.empty(2**50, dtype=torch.uint8)


@pytest.fixture(params=["supervised", "preference", "classifier"])
def path(request: pytest.FixtureRequest, config: Config, tiny_llava: Path, pairs: Path, tmp_path: Path) -> Path:
    """A config of each kind of module."""
    if request.param == "supervised":
        return config()
    if request.param == "preference":
        return preference_config(tmp_path, tiny_llava, pairs)
    write_questions(tmp_path, "train", 12)
    write_questions(tmp_path, "val", 6)
    return write_config(tmp_path, vilt_checkpoint(tmp_path / "vilt"), tmp_path)


@pytest.fixture
def room_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes answering more questions together than given ask for more memory than there is."""

    def limit(questions: int) -> None:
        for kind in (AnsweredModule, ClassifierModule):
            replies = kind.replies

            def hungry(self: Any, batch: PromptBatch, replies: Any = replies) -> list[Reply]:
                if len(batch.conversations) > questions:
                    allocate_too_much()
                found: list[Reply] = replies(self, batch)
                return found

            monkeypatch.setattr(kind, "replies", hungry)

    return limit


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("workers", [0, 1])
def test_an_evaluation_out_of_memory_is_done_in_halves_with_the_same_answers(
    workers: int, path: Path, room_for: Callable[[int], None]
) -> None:
    more = (f"--data.init_args.num_workers={workers}", "--data.init_args.eval_batch=4")
    assert verb("test", path, f"--run_dir={run_dir(path)}/whole", *more) == 0
    room_for(1)
    with pytest.warns(UserWarning, match="Out of memory with [34] questions of data.test together; [12] are asked"):
        assert verb("test", path, *more) == 0
    found, whole = predictions(run_dir(path)), predictions(run_dir(path) / "whole")
    sure, surely = ([row.pop("confidence", 1.0) for row in rows] for rows in (found, whole))
    assert found == whole
    assert sure == pytest.approx(surely, rel=1e-5)  # pictures of several sizes are padded to the largest
    one, other = (json.loads((p / "results.json").read_text()) for p in (run_dir(path), run_dir(path) / "whole"))
    assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-5)


@pytest.mark.slow(but_first=True)
def test_so_is_a_validation_within_fit(path: Path, room_for: Callable[[int], None]) -> None:
    assert verb("fit", path, f"--run_dir={run_dir(path)}/whole") == 0
    room_for(2)
    with pytest.warns(UserWarning, match="Out of memory with 6 questions of data.val"):
        assert verb("fit", path) == 0
    found, whole = scalars(run_dir(path)), scalars(run_dir(path) / "whole")
    assert found.keys() == whole.keys()
    for name in (name for name in whole if name.startswith("val/")):
        assert dict(found[name]) == pytest.approx(dict(whole[name]), rel=1e-6)
    assert found["train/loss"] == whole["train/loss"]


@pytest.mark.slow(but_first=True)
def test_what_did_not_fit_is_not_tried_again_in_later_validations(path: Path, room_for: Callable[[int], None]) -> None:
    room_for(2)
    with pytest.warns(UserWarning, match="Out of memory") as warned:
        assert verb("fit", path, "--trainer.max_epochs=2") == 0
    tries = [str(w.message) for w in warned if "questions of data.val together" in str(w.message)]
    assert len(tries) == len(set(tries)) > 0


@pytest.mark.slow(but_first=True)
def test_a_micro_batch_that_is_to_be_found_is_looked_for_in_the_validation_too(
    path: Path, room_for: Callable[[int], None]
) -> None:
    more = ("--data.init_args.micro_batch=auto", "--trainer.limit_val_batches=0")
    assert verb("fit", path, f"--run_dir={run_dir(path)}/without", *more) == 0
    room_for(1)
    with pytest.warns(UserWarning, match="Out of memory") as warned:
        assert verb("fit", path, "--data.init_args.micro_batch=auto") == 0
    whens = [str(w.message) for w in warned if "of data.val together" in str(w.message)]
    assert len(whens) == len(set(whens)) > 0
    # Nothing of the search is left in what is trained.
    assert scalars(run_dir(path))["train/loss"] == scalars(run_dir(path) / "without")["train/loss"]


def test_a_single_question_of_a_validation_that_does_not_fit_shows_before_training(
    path: Path, room_for: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    room_for(0)
    with pytest.warns(UserWarning, match="Out of memory"):
        error = refusal(capsys, "fit", "--config", str(path), "--data.init_args.micro_batch=auto")
    assert "Out of memory in the evaluation of data.val with a single question" in error
    assert "train/loss" not in scalars(run_dir(path))


def test_pairs_that_are_measured_again_count_once(
    tiny_llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = preference_config(tmp_path, tiny_llava, write_folder(tmp_path / "pairs", "pairs"))

    assert verb("validate", path, f"--run_dir={run_dir(path)}/whole") == 0
    loss, seen = PreferenceModule.loss, []

    def hungry(self: PreferenceModule, batch: Any) -> Tensor:
        seen.append(batch)
        if len(seen) == 2:  # behind a micro-batch whose figures are taken in
            allocate_too_much()
        return loss(self, batch)

    monkeypatch.setattr(PreferenceModule, "loss", hungry)
    with pytest.warns(UserWarning, match="Out of memory with 6 questions"):
        assert verb("validate", path) == 0
    one, other = (json.loads((p / "val_results.json").read_text()) for p in (run_dir(path), run_dir(path) / "whole"))
    assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-6)


def test_a_single_question_that_does_not_fit_is_the_users_to_mend(
    path: Path, room_for: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    room_for(0)
    with pytest.warns(UserWarning, match="Out of memory"):
        error = refusal(capsys, "test", "--config", str(path))
    assert "Out of memory in the evaluation of data.test with a single question" in error


# The optimizer's step -----------------------------------------------------------------------------------------------


@pytest.fixture
def hungry_optimizer(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the given call of the optimizer's step fail when it has changed some of the weights."""
    step, calls = torch.optim.AdamW.step, list[int]()

    def limit(call: int, times: int = 1) -> None:
        calls.clear()

        def hungry(self: torch.optim.AdamW, closure: None = None) -> None:
            calls.append(1)
            step(self, closure)
            if call <= len(calls) < call + times:
                allocate_too_much()

        monkeypatch.setattr(torch.optim.AdamW, "step", hungry)

    return limit


@pytest.mark.slow(but_first=True)
def test_the_first_optimizer_step_is_done_again_with_the_same_result(
    path: Path, hungry_optimizer: Callable[[int], None]
) -> None:
    whole, run, constant = run_dir(path) / "whole", run_dir(path), "--model.init_args.schedule=constant"
    assert verb("fit", path, f"--run_dir={whole}", "--trainer.max_steps=2", constant) == 0
    hungry_optimizer(1)
    with pytest.warns(UserWarning, match="Out of memory in the optimizer's step 0"):
        assert verb("fit", path, "--trainer.max_steps=1", constant) == 0
    hungry_optimizer(1)  # of a process that goes on, whose optimizer has a state
    with pytest.warns(UserWarning, match="Out of memory in the optimizer's step 1"):
        assert verb("fit", path, "--trainer.max_steps=2", "--ckpt_path=last", constant) == 0
    found, expected = checkpoint(run, 2), checkpoint(whole, 2)
    for name, weight in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], weight), name
    for key, state in expected["optimizer_states"][0]["state"].items():
        for name, value in state.items():
            assert torch.equal(found["optimizer_states"][0]["state"][key][name], value), name


def test_a_later_one_says_what_to_do(
    path: Path, hungry_optimizer: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    hungry_optimizer(2)
    error = refusal(capsys, "fit", "--config", str(path))
    assert "Out of memory in the optimizer's step 1" in error
    assert "PagedAdamW8bit" in error
    assert not (run_dir(path) / "adapter").exists()
