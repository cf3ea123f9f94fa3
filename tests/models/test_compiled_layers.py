"""Tests of compiled decoder layers: they give the usual losses and gradients, and are compiled to learn alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from tests.support import family_cases as cases
from tests.support.refusals import refusal
from tests.support.runs import fit, scalars
from tests.support.tiny_families.catalogue import save
from vlm_lit.models.compiled_layers import CompiledLayer, compile_layers
from vlm_lit.models.plain_layers import plain_layers
from vlm_lit.training.supervised import SupervisedModule

Config = Callable[..., Path]


def compiled_layers(made: SupervisedModule) -> list[CompiledLayer]:
    return [module for module in made.base.modules() if isinstance(module, CompiledLayer)]


def step(made: SupervisedModule, folder: Path, seed: int) -> tuple[float, Tensor]:
    """Loss and gradient of two rows, of other lengths with another seed."""
    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1, seed + k) for k in range(2)])
    made.zero_grad()
    torch.manual_seed(seed)
    loss = made.loss(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), torch.cat(
        [p.grad.flatten() for p in made.trainable_parameters() if p.grad is not None]
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("default")  # torch's compiler warns, and hides from users what would be errors here
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "mllama"])
def test_compiled_layers_learn_as_the_usual_ones(name: str, tmp_path: Path) -> None:
    """With dropout: compiled layers draw the same numbers."""
    folder = save(name, tmp_path)
    made = cases.module(folder, checkpointing=True)
    made.train()
    for module in made.modules():
        if isinstance(module, LoraLayer):
            module.lora_dropout["default"] = torch.nn.Dropout(0.2)
    expected = [step(made, folder, seed) for seed in (0, 3)]
    assert made.family is not None
    compile_layers(made.base, made.family)
    for seed, (loss, gradient) in zip((0, 3), expected, strict=True):
        found, of_found = step(made, folder, seed)
        assert found == pytest.approx(loss, rel=1e-6)
        torch.testing.assert_close(of_found, gradient, rtol=1e-4, atol=1e-5)
    assert all(layer.compiled is not None for layer in compiled_layers(made))
    assert compiled_layers(made)


def test_what_is_not_learned_from_is_not_compiled(tiny_llava: Path) -> None:
    made = cases.module(tiny_llava)
    assert made.family is not None
    compile_layers(made.base, made.family)
    (layer,) = compiled_layers(made)  # of two, the last of which is computed where it is read
    layer.compiled = uncalled
    batch = cases.encode(cases.encoder(tiny_llava), [cases.conversation(1, 1)])
    with torch.no_grad():
        made.loss(batch)
    with plain_layers():
        made.loss(batch)
    with pytest.raises(ZeroDivisionError):
        made.loss(batch)


def uncalled(*_: object, **__: object) -> None:
    raise ZeroDivisionError


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_machine_without_a_compiler_is_told_so(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    from torch._inductor import config as settings

    with settings.patch({"cpp.cxx": ("no_compiler",), "force_disable_caches": True}):
        said = refusal(capsys, "fit", "--config", str(config(model={"compile_layers": True})))
    assert "model.compile_layers is true, and torch cannot compile here" in said
    assert "No working C++ compiler found" in said, said


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("default")
def test_a_run_with_compiled_layers_has_the_usual_losses(config: Config) -> None:
    path = config(model={"lora": {"dropout": 0.1}}, trainer={"max_steps": 2})
    found = []
    for compiled in ("false", "true"):
        place = path.parent / compiled
        fit(path, f"--run_dir={place}", f"--model.init_args.compile_layers={compiled}")
        found.append({name: [v for _, v in scalars(place)[name]] for name in ("train/loss", "val/loss")})
    for name, usual in found[0].items():
        assert found[1][name] == pytest.approx(usual, rel=1e-5)
    assert len(found[0]["train/loss"]) == 2
