"""Tests of an adapter's base: it is the one that was trained on, wherever it lies now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from vlm_lit.errors import ConfigError
from vlm_lit.models.adapter_state import base_identity
from vlm_lit.models.merge.base_source import find_base

COMMIT, OTHER = "a" * 40, "b" * 40


def fingerprint(base: Path, **changed: object) -> dict[str, object]:
    return {"base": {**base_identity(str(base), None, None), **changed}}


def test_an_unchanged_base_is_verified_wherever_it_lies(tiny_llava: Path, tmp_path: Path) -> None:
    base = tiny_llava
    kept = fingerprint(base)
    assert find_base(kept).verified
    shutil.copytree(base, tmp_path / "moved")
    assert find_base(kept, str(tmp_path / "moved")).folder == tmp_path / "moved"


def test_a_changed_base_is_refused(tiny_llava: Path, tmp_path: Path) -> None:
    base = tiny_llava
    kept = fingerprint(base)
    shutil.copytree(base, tmp_path / "changed")
    state = load_file(base / "model.safetensors")
    first = next(iter(state))
    state[first] = state[first] + 1e-3
    save_file(state, tmp_path / "changed" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ConfigError, match=r"not the one the adapter was trained on: the SHA-256 of model\.safetensors is"
    ):
        find_base(kept, str(tmp_path / "changed"))
    shutil.copyfile(base / "model.safetensors", tmp_path / "changed" / "model.safetensors")
    shutil.copyfile(base / "model.safetensors", tmp_path / "changed" / "more.safetensors")
    with pytest.raises(ConfigError, match=r"more\.safetensors is new in it"):
        find_base(kept, str(tmp_path / "changed"))
    (tmp_path / "changed" / "more.safetensors").unlink()
    (tmp_path / "changed" / "model.safetensors").rename(tmp_path / "changed" / "other.safetensors")
    with pytest.raises(ConfigError, match=r"it lacks model\.safetensors"):
        find_base(kept, str(tmp_path / "changed"))


def test_a_folder_that_is_gone_is_not_looked_for_on_the_hub(tiny_llava: Path) -> None:
    kept = fingerprint(tiny_llava, model_id="gone/base")
    with pytest.raises(ConfigError, match=r"'gone/base' is not a folder here\. Run this where .* by --base"):
        find_base(kept)


def test_a_base_stored_in_4_bit_is_refused(tiny_llava: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_llava, tmp_path / "base")
    settings = json.loads((tiny_llava / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "base" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="is stored quantized"):
        find_base(fingerprint(tiny_llava), str(tmp_path / "base"))


def test_the_commit_of_a_hub_base_is_checked_where_the_folder_tells_it(tiny_llava: Path, tmp_path: Path) -> None:
    kept = fingerprint(tiny_llava, model_id="org/name", commit=COMMIT, weights_sha256={})
    for name in (COMMIT, OTHER):
        shutil.copytree(tiny_llava, tmp_path / "snapshots" / name)
    found = find_base(kept, str(tmp_path / "snapshots" / COMMIT))
    assert found.verified
    assert found.commit == COMMIT
    with pytest.raises(ConfigError, match=f"it is commit {OTHER}, was {COMMIT}"):
        find_base(kept, str(tmp_path / "snapshots" / OTHER))
    assert not find_base(kept, str(tiny_llava)).verified


def test_the_commit_that_was_trained_on_is_taken_from_the_hubs_cache(
    tiny_llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cached = tmp_path / "models--org--name"
    for commit in (COMMIT, OTHER):
        shutil.copytree(tiny_llava, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(OTHER)  # the branch has moved on since
    found = find_base(fingerprint(tiny_llava, model_id="org/name", revision="main", commit=COMMIT, weights_sha256={}))
    assert (found.folder.name, found.commit, found.verified) == (COMMIT, COMMIT, True)
    with pytest.raises(ConfigError, match=rf"The base 'org/name' \(commit {'c' * 40}\) cannot be fetched"):
        find_base(fingerprint(tiny_llava, model_id="org/name", commit="c" * 40, weights_sha256={}))
