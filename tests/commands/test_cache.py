"""Tests of `cache`: a fit with vision features from the disk is the fit without, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import is_torchvision_available

from tests.support import runs, small_data, tiny_models
from tests.support.distributions import pretend
from vlm_lit.commands.cache import run as cache
from vlm_lit.errors import ConfigError

Config = Callable[..., Path]


def _said(lines: Sequence[str]) -> str:
    """What was said last of the features."""
    return [line for line in lines if "Vision features: " in line][-1]


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Five conversations about four pictures, one of them under two names, and two questions about two of those."""
    small_data.write_conversations(tmp_path, 5, prefix="train")
    small_data.write_conversations(tmp_path, 2, turns=1, prefix="val")
    shutil.copy(tmp_path / "images" / "train0.png", tmp_path / "images" / "train4.png")
    return tmp_path


@pytest.fixture
def cached(config: Config, data_set: Path) -> Callable[..., Path]:
    """Writes a config over the small data set with a feature cache."""

    def write(**changed: object) -> Path:
        sources = {name: {"path": str(data_set / f"{name}.json")} for name in ("train", "val")}
        settings = {**sources, "test": sources["val"], "effective_batch": 2, "feature_cache": str(data_set / "store")}
        return config(data={**settings, **changed})

    return write


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fit_with_features_from_the_disk_is_the_fit_without(
    cached: Config, caplog: pytest.LogCaptureFixture, precision: str
) -> None:
    losses = []
    for changed in ({"feature_cache": None}, {"num_workers": 2}, {}):
        path = cached(**changed)
        runs.fit(path, f"--trainer.precision={precision}")
        losses.append([value for _, value in runs.scalars(runs.run_dir(path))["train/loss"]])
        shutil.rmtree(runs.run_dir(path))
    said = [line for line in caplog.messages if "Vision features: " in line]
    assert ["4 distinct images, 0 found" in said[0], "4 distinct images, 4 found" in said[1]] == [True, True]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[2] == losses[1]


def test_filled_ahead_a_fit_computes_nothing_and_never_runs_the_tower(
    cached: Config,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = cached()
    assert cache("cache", ["--config", str(path)]) == 0
    taken = capsys.readouterr()
    assert taken.out.startswith("4 images in ")
    assert "4 distinct images, 0 found" in taken.err
    assert not runs.run_dir(path).exists(), "nothing is trained or written but features"
    from transformers.models.clip.modeling_clip import CLIPVisionModel

    monkeypatch.setattr(CLIPVisionModel, "forward", None)
    runs.fit(path)
    assert "4 found in" in _said(caplog.messages)


def test_what_is_kept_of_an_image_follows_from_the_image_alone(cached: Config, data_set: Path) -> None:
    kept = []
    for name in ("one", "other"):  # each in an order of its own
        assert cache("cache", ["--config", str(cached(feature_cache=str(data_set / name)))]) == 0
        (shard,) = (data_set / name).glob("*/*.safetensors")
        kept.append(load_file(shard))
    assert kept[0].keys() == kept[1].keys()
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in kept[0].items())


def test_a_test_answers_from_features_what_it_answers_from_images(cached: Config) -> None:
    said = []
    for changed in ({"feature_cache": None}, {}):
        path = cached(**changed)
        assert runs.verb("test", path) == 0
        said.append([(p["id"], p["prediction"]) for p in runs.predictions(runs.run_dir(path))])
    assert len(said[0]) == 2
    assert said[0] == said[1]


@pytest.mark.slow
def test_changed_bytes_processor_precision_and_tower_are_all_missed(
    cached: Config, tiny_llava: Path, data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cached()

    def asked(*more: str) -> str:
        assert cache("cache", ["--config", str(path), *more]) == 0
        return _said(capsys.readouterr().err.splitlines())

    assert "0 found" in asked()
    assert "4 found" in asked()
    tiny_models.picture(99).save(data_set / "images" / "train3.png")
    assert "3 found" in asked()
    assert "0 found" in asked("--trainer.precision=bf16-mixed")
    for name, change in (("processor", _other_processor), ("tower", _other_tower), ("template", _other_template)):
        folder = shutil.copytree(tiny_llava, tmp_path / name)
        change(folder)
        found = 4 if name == "template" else 0  # a moved checkpoint with other words sees the same images
        assert f"{found} found" in asked(f"--model.init_args.model_id={folder}")


def test_what_other_pixels_were_made_of_is_not_found(
    cached: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cached()

    def asked(*more: str) -> str:
        assert cache("cache", ["--config", str(path), *more]) == 0
        return _said(capsys.readouterr().err.splitlines())

    assert "0 found" in asked()
    if is_torchvision_available():
        assert "0 found" in asked("--data.init_args.image_backend=torchvision")
        assert "4 found" in asked("--data.init_args.image_backend=torchvision")
    assert "4 found" in asked("--data.init_args.image_backend=pil")
    monkeypatch.syspath_prepend(pretend(tmp_path / "newer", "pillow", "99.0.0"))
    assert "0 found" in asked()


def _other_processor(folder: Path) -> None:
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    settings["image_processor"]["image_mean"][0] += 0.1
    path.write_text(json.dumps(settings))


def _other_tower(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    name = next(name for name in weights if "vision" in name and name.endswith("weight"))
    weights[name] = weights[name] + torch.full_like(weights[name], 1e-3)
    save_file(weights, path, metadata={"format": "pt"})


def _other_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + "{# other words #}")


@pytest.mark.parametrize(
    ("changed", "more", "reason"),
    [
        ({}, ["--model.init_args.parts.vision_tower.training=lora"], "vision_tower.training is lora"),
        ({"feature_cache_gb": 1e-6}, [], r"4 images need about .* allows 1 kB\. Nothing was written"),
        ({"feature_cache": None}, [], "cache needs a folder: set data.init_args.feature_cache"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    cached: Config, data_set: Path, changed: dict[str, object], more: list[str], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        cache("cache", ["--config", str(cached(**changed)), *more])
    assert not (data_set / "store").exists()


def test_fit_refuses_a_trained_tower(cached: Config, data_set: Path) -> None:
    with pytest.raises(ConfigError, match=r"vision_tower\.training is full"):
        runs.fit(cached(), "--model.init_args.parts.vision_tower.training=full")
    assert not (data_set / "store").exists()
