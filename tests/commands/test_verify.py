"""Tests of `verify`: it finds the equalities of a sound run, and a broken one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.support import small_config, small_data
from vlm_lit.cli import main
from vlm_lit.models import attention, causal_attention, element_wise, last_layer


@pytest.fixture
def shared(folders: dict[str, Path], tmp_path: Path) -> Callable[..., str]:
    """A config whose conversations show two pictures, four questions each."""
    small_data.write_conversations(tmp_path, 8, turns=1, prefix="train")
    rows = json.loads((tmp_path / "train.json").read_text())
    for i, row in enumerate(rows):
        row["image"] = f"images/train{i // 4}.png"
    (tmp_path / "train.json").write_text(json.dumps(rows))

    def config(name: str, **model: object) -> str:
        return str(small_config.write(tmp_path, folders[name], tmp_path, data={"val": None}, model=model))

    return config


def verified(path: str, out: Path, *more: str) -> tuple[int, dict[str, dict[str, object]]]:
    """The equalities that this process measures; those of several are `test_verify_ranks.py`'s."""
    status = main(["verify", "--config", path, "--ranks", "1", "--format", "json", "--output", str(out), *more])
    rows = {row["name"]: row for row in json.loads(out.read_text())}
    assert {rows.pop(name)["note"] for name in ("sharded", "frozen-sharded")} == {"not checked: --ranks 1"}
    return status, rows


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "smolvlm"])
def test_every_equality_holds(name: str, shared: Callable[..., str], tmp_path: Path) -> None:
    status, found = verified(shared(name), tmp_path / "v.json")
    assert status == 0
    assert {row["verdict"] for row in found.values()} == {"equal"}
    assert found["packed"]["note"] == "8 conversations in 2 rows"
    assert 0.0 <= found["packed"]["gradient"] < 1e-5  # type: ignore[operator]
    assert found["reloaded"]["gradient"] == 0.0


def test_what_a_family_does_not_allow_is_refused_with_its_reason(shared: Callable[..., str], tmp_path: Path) -> None:
    status, found = verified(shared("mllama"), tmp_path / "v.json")
    assert status == 0
    assert found["packed"]["verdict"] == "refused"
    assert "cross-attention" in str(found["packed"]["note"])


def test_a_broken_mask_is_found(
    shared: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leaky(segments: Tensor, valid: Tensor) -> Tensor:
        length = segments.shape[1]
        return torch.ones(length, length, dtype=torch.bool).tril() & valid[:, None, :]

    monkeypatch.setattr(attention, "visible", leaky)
    assert main(["verify", "--config", shared("llava"), "--ranks", "1"]) == 1
    shown = capsys.readouterr().out
    assert "packed" in shown
    assert "DIFFERENT" in shown


@pytest.mark.parametrize(
    ("broken", "by"), [(element_wise, "_turned"), (last_layer, "_taken"), (causal_attention, "repeat_kv")]
)
def test_a_broken_layer_of_our_own_is_found(
    broken: ModuleType, by: str, shared: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Callable[..., Tensor] = getattr(broken, by)
    monkeypatch.setattr(broken, by, lambda *inputs: whole(*inputs) * 1.01)
    monkeypatch.setattr(causal_attention, "CHUNK", 8)
    status, found = verified(shared("llava"), tmp_path / "v.json")
    assert status == 1
    assert found["plain"]["verdict"] == "DIFFERENT"


def test_the_table_is_the_only_thing_on_standard_output(
    shared: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--config", shared("llava"), "--conversations", "4", "--ranks", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["claim", "verdict", "loss", "differs", "by", "gradient", "by"]
    assert [line.split()[0] for line in lines[1:]] == [
        "mask", "packed", "cached", "accumulated", "plain", "generated", "reloaded", "sharded", "frozen-sharded",
    ]  # fmt: skip


def test_a_mistyped_option_is_named(shared: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--config", shared("llava"), "--conversations", "1"]) == 2
    assert "whole number from 2 up" in capsys.readouterr().err
