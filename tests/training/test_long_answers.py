"""Tests of evaluations with long answers: the same predictions in the same order, whoever is answered beside whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support import tiny_models
from tests.support.runs import predictions, run_dir, verb
from vlm_lit.models.generation import StopTokens
from vlm_lit.models.packed_rows import PrefixReader
from vlm_lit.training import answered
from vlm_lit.training.answering import Answering

Config = Callable[..., Path]
PICTURES, QUESTIONS = 4, 2


@pytest.fixture(params=[True, False])
def path(config: Config, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A config that tests questions about pictures, three at a time, in packed rows or each in its own."""
    (tmp_path / "images").mkdir()
    for k in range(PICTURES):
        tiny_models.picture(k).save(tmp_path / f"images/{k}.png")
    rows = [
        {"id": f"{q}-{k}", "image": f"images/{k}.png", "question": "describe" + " it" * (k + q), "answer": "red"}
        for q in range(QUESTIONS)
        for k in range(PICTURES)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    data = {"test": {"path": str(tmp_path / "rows.json")}, "eval_batch": 3, "packing": request.param}
    return config(data=data, model={"max_new_tokens": 40})


@pytest.fixture(autouse=True)
def some_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of a model that was never trained end sooner or later, too."""
    plain = Answering.stop

    def stop(self: Answering) -> StopTokens:
        found: StopTokens = plain.func(self)  # type: ignore[attr-defined]
        return StopTokens(
            end_of_turn=(*found.end_of_turn, *range(40, 400, 7)), pad=found.pad, forbidden=found.forbidden
        )

    monkeypatch.setattr(Answering, "stop", property(stop))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often answers went a step further, and others joined them."""
    found = {"append": 0, "joined": 0}
    for name in found:
        plain = getattr(PrefixReader, name)

        def counted(
            self: PrefixReader, *given: object, name: str = name, plain: Callable[..., object] = plain
        ) -> object:
            found[name] += 1
            return plain(self, *given)

        monkeypatch.setattr(PrefixReader, name, counted)
    return found


def answers(path: Path, name: str, *more: str) -> list[dict[str, object]]:
    folder = run_dir(path) / name
    assert verb("test", path, f"--run_dir={folder}", *more) == 0
    return predictions(folder)


@pytest.mark.filterwarnings("ignore:Out of memory")
def test_questions_that_join_those_before_them_have_the_answers_they_have_alone(
    path: Path, calls: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(answered, "LONG", 1000)
        expected = answers(path, "apart")
    apart = dict(calls)
    assert apart["joined"] == 0
    assert len({len(str(row["prediction"]).split()) for row in expected}) > 3
    assert answers(path, "together") == expected
    together = {name: calls[name] - apart[name] for name in calls}
    assert together["joined"] > 0
    if apart["append"]:  # rows apart are answered by transformers' own loop there
        assert together["append"] < apart["append"], "fewer steps, since more are answered in each"
    for name, at in (("append", together["append"] // 2), ("append", together["append"]), ("joined", 1)):
        _fail_once(monkeypatch, name, at)
        with pytest.warns(UserWarning, match="Out of memory with [2-9] questions of data.test together"):
            assert answers(path, f"{name}-{at}") == expected, (name, at)


def _fail_once(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> None:
    """Let a call ask for more memory than there is."""
    left, plain = [at], getattr(PrefixReader, name)

    def hungry(self: PrefixReader, *given: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            torch.empty(2**50, dtype=torch.uint8)
        return plain(self, *given)

    monkeypatch.setattr(PrefixReader, name, hungry)
