"""Tests of packed attention: packed rows mean the same to every kind of attention."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import save
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.conversation_encoder import ConversationEncoder
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.models import attention
from vlm_lit.models.attention import addable, unpackable
from vlm_lit.models.families import FAMILIES
from vlm_lit.schema import StepBatch
from vlm_lit.training.supervised import SupervisedModule


def packed_and_plain(module: SupervisedModule, encoder: ConversationEncoder) -> list[float]:
    """The summed loss of questions about one picture, in shared rows and in rows of their own."""
    policy, talks = OverLengthPolicy(encoder, None, "error"), cases.about_one_picture(1)
    losses = []
    for packing in (True, False):
        step_batch = StepCollator(encoder, policy, 8, packing=packing)(talks)
        assert isinstance(step_batch, StepBatch)
        with torch.no_grad():
            losses.append(sum(float(module.loss(batch)) for batch in step_batch.micro_batches))
    return losses


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_packed_rows_cost_what_plain_ones_do(name: str, implementation: str, tmp_path: Path) -> None:
    folder = save(name, tmp_path)
    module, encoder = cases.module(folder), cases.encoder(folder)
    module.base.set_attn_implementation(implementation)  # type: ignore[operator]
    losses = packed_and_plain(module, encoder)
    # Summed float32 losses of a few nats each.
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_shared_mask_says_what_the_bool_one_says(
    name: str, autocast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(name, tmp_path)
    module, encoder = cases.module(folder), cases.encoder(folder)
    made = StepCollator(encoder, OverLengthPolicy(encoder, None, "error"), 8, packing=True)(cases.about_one_picture(1))
    assert isinstance(made, StepBatch)
    masks: list[torch.Tensor] = []

    def result() -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = sum((module.loss(batch) for batch in made.micro_batches), torch.zeros(()))
        return [loss, *torch.autograd.grad(loss, list(module.trainable_parameters()), allow_unused=True)]

    def noted(mask: torch.Tensor, backbone: nn.Module) -> torch.Tensor:
        masks.append(addable(mask, backbone))
        return masks[-1]

    monkeypatch.setattr(attention, "addable", noted)
    ours = result()
    assert [mask.dtype for mask in masks] == [torch.bfloat16 if autocast else torch.float32] * len(masks)
    assert all(stride % 16 == 0 for mask in masks for stride in mask.stride()[:-1])
    monkeypatch.setattr(attention, "addable", lambda mask, _: mask)
    for one, other in zip(ours, result(), strict=True):
        assert torch.equal(one, other)


def test_attention_without_a_mask_of_its_own_packs_nothing(tmp_path: Path) -> None:
    module = cases.module(save("llava", tmp_path))
    module.base.config.get_text_config()._attn_implementation = "flash_attention_2"  # type: ignore[union-attr, operator]
    assert "flash_attention_2 takes no mask" in str(unpackable(module.base, FAMILIES["llava"]))


def test_a_sliding_window_packs_nothing(tmp_path: Path) -> None:
    folder = save("pixtral", tmp_path)
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["sliding_window"] = 12
    (folder / "config.json").write_text(json.dumps(settings))
    module, encoder = cases.module(folder), cases.encoder(folder)
    reason = unpackable(module.base, FAMILIES["llava"])
    assert reason == "its tokens see the 12 before them only, which the mask of a packed row does not say"
    assert module.shortcuts().unpackable == reason
    # Why: with the mask of packed rows the losses are others.
    losses = packed_and_plain(module, encoder)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)
