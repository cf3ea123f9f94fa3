"""Tests that a GPU must pass and that run on the CPU too, so that none fails for a trifle when there is a GPU.

`scripts/benchmark/gpu_check.py` runs those marked gpu.
"""

from collections.abc import Callable
from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch

from tests.support.interrupted import Kill, Outcome, fit_apart
from tests.support.runs import scalars
from vlm_lit.cli import main
from vlm_lit.models.adapter_state import WEIGHTS

Config = Callable[..., Path]

BACKWARD = "vlm_lit.training.step:StepModule._backward"
CHECKPOINTS = "vlm_lit.training.callbacks.step_checkpoint.StepCheckpoint"


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def accelerator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lightning's word for the device, whose kernels are told to be deterministic."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    name: str = request.param
    return name


def test_a_4bit_product_is_that_of_its_weights(accelerator: str) -> None:
    device = "cuda" if accelerator == "gpu" else "cpu"
    generator = torch.Generator().manual_seed(0)
    weight, shown = torch.randn(64, 128, generator=generator), torch.randn(8, 128, generator=generator)
    layer = bnb.nn.Linear4bit(128, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    layer = layer.to(device)
    x = shown.to(device).requires_grad_()
    found = layer(x)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    stored = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float().view(64, 128)
    # A GPU multiplies float32 matrices in TF32 where that is allowed: 10 bits of 128 terms.
    torch.testing.assert_close(found, x.detach() @ stored.T, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(gradient, stored.sum(0).expand_as(x), rtol=1e-2, atol=1e-2)
    assert 0.05 < float((stored.cpu() - weight).norm() / weight.norm()) < 0.15  # NF4 rounds by a tenth


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_goes_on_exactly(precision: str, accelerator: str, config: Config, tmp_path: Path) -> None:
    keeper = {"class_path": CHECKPOINTS, "init_args": {"every_n_steps": 1}}
    trainer = {"accelerator": accelerator, "deterministic": True, "precision": precision, "callbacks": [keeper]}
    written = config(trainer=trainer, model={"lora": {"dropout": 0.1}})
    assert fit_apart(written, tmp_path / "whole") == 0
    assert fit_apart(written, tmp_path / "killed", kill=Kill(at=BACKWARD, call=5)) == -9
    assert fit_apart(written, tmp_path / "killed", "--ckpt_path", "last") == 0
    assert Outcome.of(tmp_path / "whole") == Outcome.of(tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "smolvlm"])
def test_every_shortcut_is_exact(
    name: str, accelerator: str, config: Config, folders: dict[str, Path], tmp_path: Path
) -> None:
    written = config(trainer={"accelerator": accelerator}, model={"model_id": str(folders[name])})
    assert main(["verify", "--config", str(written), "--output", str(tmp_path / "verify.txt")]) == 0


@pytest.mark.slow
def test_features_that_are_kept_give_the_same_run(accelerator: str, config: Config, tmp_path: Path) -> None:
    trainer = {"accelerator": accelerator, "deterministic": True}
    losses: list[list[float]] = []
    for kept in (None, str(tmp_path / "features")):
        written = config(trainer=trainer, data={"feature_cache": kept})
        assert fit_apart(written, tmp_path / f"run{len(losses)}") == 0
        losses.append([value for _, value in scalars(tmp_path / f"run{len(losses)}")["train/loss"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.gpu
def test_a_gpu_starts_where_the_cpu_starts_and_learns_alike(config: Config, tmp_path: Path) -> None:
    losses = {}
    for accelerator in ("cpu", "gpu"):
        assert fit_apart(config(trainer={"accelerator": accelerator}), tmp_path / accelerator) == 0
        assert (tmp_path / accelerator / "adapter" / WEIGHTS).is_file()
        losses[accelerator] = [value for _, value in scalars(tmp_path / accelerator)["train/loss"]]
    assert losses["gpu"][0] == pytest.approx(losses["cpu"][0], rel=1e-3)
    assert losses["gpu"] == pytest.approx(losses["cpu"], rel=1e-2)
