"""Tests of parameter groups and schedules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support import classifiers as cases
from tests.support.tiny_families.catalogue import save
from vlm_lit.models.adapters import attach_adapters
from vlm_lit.models.families import Family
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.training.optimization import ParameterGroup, learning_rates, parameter_groups

FULL = PartSettings(precision="fp32", training="full", learning_rate=1e-3)
PARTS = cases.parts(language_model=PartSettings(precision="fp32", training="full", last_layers=2), head=FULL)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Family]:
    base, family = cases.load(save("vilt", tmp_path_factory.mktemp("vilt")), PARTS)
    attach_adapters(base, family, PARTS, LoraSettings(), seed=0)
    return base, family


def names(model: nn.Module, group: ParameterGroup) -> list[str]:
    ids = {id(p) for p in group["params"]}
    return [name.replace("modules_to_save.default.", "") for name, p in model.named_parameters() if id(p) in ids]


def test_a_part_is_one_group_unless_asked_otherwise(adapted: tuple[nn.Module, Family]) -> None:
    model, family = adapted
    groups = parameter_groups(model, family, PARTS, 1e-4)
    assert [(g["name"], g["lr"]) for g in groups] == [("language_model", 1e-4), ("head", 1e-3)]
    assert not any("weight_decay" in group for group in groups)
    assert sum(len(g["params"]) for g in groups) == sum(p.requires_grad for p in model.parameters())


def test_biases_and_norms_go_without_weight_decay(adapted: tuple[nn.Module, Family]) -> None:
    model, family = adapted
    groups = parameter_groups(model, family, PARTS, 1e-4, decay="matrices")
    assert [(g["name"], g["lr"], g.get("weight_decay")) for g in groups] == [
        ("language_model", 1e-4, None),
        ("language_model/no_decay", 1e-4, 0.0),
        ("head", 1e-3, None),
        ("head/no_decay", 1e-3, 0.0),
    ]
    by_name = {g["name"]: names(model, g) for g in groups}
    assert by_name["head"] == ["classifier.0.weight", "classifier.3.weight"]
    assert by_name["head/no_decay"] == [
        "classifier.0.bias",
        "classifier.1.weight",
        "classifier.1.bias",
        "classifier.3.bias",
    ]
    assert all(name.endswith(("bias", "layernorm_before.weight", "layernorm_after.weight", "vilt.layernorm.weight"))
               for name in by_name["language_model/no_decay"])  # fmt: skip
    assert not any("norm" in name or "bias" in name for name in by_name["language_model"])
    both = [p for group in groups for p in group["params"]]
    assert len(both) == len({id(p) for p in both}) == sum(p.requires_grad for p in model.parameters())
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)  # type: ignore[arg-type]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0, 0.01, 0.0]


def test_vectors_are_pulled_to_zero_by_no_step(tmp_path: Path) -> None:
    """Without gradients only the decay moves weights."""
    parts: PartsSettings = PARTS
    model, family = cases.load(save("vilt", tmp_path), parts)
    attach_adapters(model, family, parts, LoraSettings(), seed=0)
    groups = parameter_groups(model, family, parts, 1e-2, decay="matrices")
    before = {g["name"]: [p.detach().clone() for p in g["params"]] for g in groups}
    for group in groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    torch.optim.AdamW(groups, weight_decay=0.5).step()  # type: ignore[arg-type]
    for group in groups:
        still = [
            torch.equal(old, new.detach()) for old, new in zip(before[group["name"]], group["params"], strict=True)
        ]
        assert set(still) == {group["name"].endswith("/no_decay")}, group["name"]


def factors(kind: str, *, steps: int, warmup: float, rate: float = 1e-4) -> list[float]:
    optimizer = torch.optim.AdamW([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate}], lr=7.0)
    course = learning_rates(optimizer, kind, warmup_ratio=warmup, total_steps=steps)  # type: ignore[arg-type]
    found = []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"] / rate)
        optimizer.step()
        course.step()
    return found


def test_polynomial_is_vilts_schedule_up_from_zero_and_straight_down_to_zero() -> None:
    expected = [0.0, 0.5, 1.0, *(1 - k / 18 for k in range(1, 19))]
    assert factors("polynomial", steps=20, warmup=0.1) == pytest.approx(expected, abs=1e-12)
    assert factors("polynomial", steps=20, warmup=0.1)[-1] == 0.0
    # Of power 1 and to zero it is what transformers calls linear.
    assert factors("linear", steps=20, warmup=0.1) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_polynomial_in_a_run_that_ends_with_its_warm_up(steps: int) -> None:
    assert factors("polynomial", steps=steps, warmup=0.9)[-1] == 0.0
