"""Tests of `verify` on pairs: the equalities of a sound preference run, and a reference that drifts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from tests.commands.test_verify import verified
from tests.support.pairs import preference_config, write_folder
from tests.support.runs import fit, run_dir
from vlm_lit.models.reference import Reference
from vlm_lit.schema import Preference
from vlm_lit.training import reference_store

MDPO = [{"name": "sigmoid"}, {"name": "image_sigmoid"}, {"name": "anchor"}]


@pytest.fixture
def preferring(folders: dict[str, Path], tmp_path: Path) -> Callable[..., str]:
    """A config of a preference run over pairs about pictures, two about each."""
    write_folder(tmp_path, "pairs")

    def config(name: str, data: dict[str, object] | None = None, **model: object) -> str:
        settings = {"val": None, **(data or {})}
        return str(preference_config(tmp_path, folders[name], tmp_path, data=settings, model=model))

    return config


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "mllama"])
@pytest.mark.parametrize("corrupt", [None, "crop"])
def test_every_equality_holds(name: str, corrupt: str | None, preferring: Callable[..., str], tmp_path: Path) -> None:
    more: dict[str, Any] = {} if corrupt is None else {"losses": MDPO, "data": {"corrupt": corrupt}}
    status, found = verified(preferring(name, **more), tmp_path / "v.json", "--conversations", "6")
    assert status == 0
    assert list(found) == ["mask", "packed", "cached", "accumulated", "plain", "generated", "reloaded", "referenced"]
    refused = {key for key, row in found.items() if row["verdict"] == "refused"}
    assert refused == ({"packed"} if name == "mllama" else set())
    assert {row["verdict"] for key, row in found.items() if key not in refused} == {"equal"}
    assert found["mask"]["note"] == f"{6 * (2 if corrupt is None else 3)} conversations"
    if name == "llava":
        assert found["packed"]["note"] == f"6 pairs in {3 if corrupt is None else 9} rows"
    assert found["referenced"]["note"] == "6 pairs, live to the last bit"
    assert 0.0 <= float(str(found["referenced"]["gradient"])) < 1e-5


@pytest.mark.slow
def test_a_run_that_begins_at_an_adapter_has_that_for_its_start(preferring: Callable[..., str], tmp_path: Path) -> None:
    first = Path(preferring("llava", learning_rate=3e-3))
    fit(first)
    (run_dir(first) / "adapter").rename(tmp_path / "sft")
    status, found = verified(preferring("llava", adapter=str(tmp_path / "sft")), tmp_path / "v.json")
    assert (status, found["referenced"]["verdict"]) == (0, "equal")


def test_a_reference_with_the_trained_projector_left_in_place_is_found(
    preferring: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lora_alone(self: Reference) -> Iterator[None]:
        layers = [layer for layer in self.model.modules() if isinstance(layer, LoraLayer)]
        for layer in layers:
            layer.enable_adapters(False)
        yield
        for layer in layers:
            layer.enable_adapters(True)

    monkeypatch.setattr(Reference, "_without_adapters", lora_alone)
    status, found = verified(preferring("llava"), tmp_path / "v.json")
    assert (status, found["referenced"]["verdict"]) == (1, "DIFFERENT")
    assert "the live reference has drifted from the start by" in str(found["referenced"]["note"])


def test_a_store_that_mixes_up_its_pairs_is_found(
    preferring: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_for_all(pair: Preference, _corrupted: object = None) -> str:
        return pair.id[:-1]

    monkeypatch.setattr(reference_store, "pair_key", one_for_all)
    status, found = verified(preferring("llava"), tmp_path / "v.json")
    assert (status, found["referenced"]["verdict"]) == (1, "DIFFERENT")
    assert found["referenced"]["note"] == "8 pairs, live to the last bit; what is stored says something else"


def test_without_a_reference_there_is_nothing_to_measure(preferring: Callable[..., str], tmp_path: Path) -> None:
    path = preferring("llava", losses=[{"name": "simpo", "beta": 2.0}])
    status, found = verified(path, tmp_path / "v.json", "--conversations", "2")
    assert (status, found["referenced"]["verdict"]) == (0, "refused")
    assert torch.is_grad_enabled()
