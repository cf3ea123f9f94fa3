"""Tests under CUDA's autocast rules, which give float32 where the CPU's give bfloat16: no two dtypes meet there."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from tests.support import family_cases as cases
from tests.support import stored
from tests.support.cuda_autocast import CudaAutocast
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.models.attention import unpackable
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.generation import StopTokens, generate
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.models.shared_generation import generate_shared
from vlm_lit.schema import StepBatch
from vlm_lit.training.supervised import SupervisedModule

BF16 = PartSettings(precision="bf16")
PARTS = PartsSettings(
    vision_tower=BF16,
    projector=PartSettings(precision="bf16", training="full"),
    language_model=PartSettings(precision="nf4", training="lora"),
    head=BF16,
)
"""As the 7B recipes have it."""
BY_THEMSELVES = ("pixtral", "qwen2_5_vl")  # RMS norms alone, which go to float32 and back by themselves


def test_a_layer_norm_of_bfloat16_gives_float32() -> None:
    norm, x = torch.nn.LayerNorm(4).bfloat16(), torch.ones(2, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(x).dtype == torch.bfloat16
        with CudaAutocast() as rules:
            assert norm(x).dtype == torch.float32
            assert (x**2).dtype == x.softmax(-1).dtype == torch.float32
            assert x.softmax(-1, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert rules.cast["layer_norm"] == 1


def _module(folder: Path, parts: PartsSettings, *, checkpointing: bool = False) -> SupervisedModule:
    return cases.module(folder, parts, checkpointing=checkpointing)


@pytest.mark.parametrize("name", list(TINY))
def test_a_step_of_every_family_runs_and_costs_what_it_costs(name: str, folders: dict[str, Path]) -> None:
    folder = folders[name]
    encoder, module = cases.encoder(folder), _module(folder, PARTS, checkpointing=True)
    family, policy = FAMILIES[TINY[name].model_type], OverLengthPolicy(encoder, None, "error")
    module.train()
    talks = cases.about_one_picture(1)[:: 1 if TINY[name].turns else 2] + cases.about_one_picture(1, seed=3)[:1]
    losses = []
    with TemporaryDirectory() as root:
        with torch.autocast("cpu", torch.bfloat16), CudaAutocast() as rules:
            store = stored.filled(Path(root), module.base, family, encoder, talks)
        for packing in {False, unpackable(module.base, family) is None}:
            for kept in (None, store):
                made = StepCollator(encoder, policy, 8, packing=packing, store=kept)(talks)
                assert isinstance(made, StepBatch)
                with torch.autocast("cpu", torch.bfloat16), rules:
                    loss = sum((module.loss(batch) / made.weight for batch in made.micro_batches), torch.zeros(()))
                    loss.backward()  # type: ignore[no-untyped-call]
                losses.append(float(loss.detach()))
    assert (sum(rules.cast.values()) > 0) is (name not in BY_THEMSELVES)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.trainable_parameters())
    assert losses == pytest.approx([losses[0]] * len(losses), rel=2e-2)  # bfloat16 has 8 bits
    plain = StepCollator(encoder, policy, 8, packing=False)(talks)
    assert isinstance(plain, StepBatch)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        cpu = sum(float(module.loss(batch)) / plain.weight for batch in plain.micro_batches)
    assert losses[0] == pytest.approx(cpu, rel=2e-2)


@pytest.mark.parametrize("name", list(TINY))
def test_answers_of_every_family_are_generated(name: str, folders: dict[str, Path]) -> None:
    folder = folders[name]
    encoder, module = cases.encoder(folder), _module(folder, PARTS).eval()
    family = FAMILIES[TINY[name].model_type]
    stop = StopTokens(
        end_of_turn=encoder.end_of_turn,
        pad=int(encoder.tokenizer.pad_token_id),
        forbidden=(int(encoder.processor.image_token_id),),
    )
    talks = cases.about_one_picture(1)[:: 1 if TINY[name].turns else 2]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), CudaAutocast():
        for packing in {False, unpackable(module.base, family) is None}:
            for batch in cases.prompts(encoder, talks, packing=packing):
                if batch.segments is None:
                    said = generate(module.base, batch.inputs, max_new_tokens=3, stop=stop)
                else:
                    said = generate_shared(
                        module.base, batch.inputs, batch.segments, family=family, max_new_tokens=3, stop=stop
                    )
                assert len(said) == len(batch.conversations)
