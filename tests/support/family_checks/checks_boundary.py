"""Family check of a boundary in the tower: LoRA on its last blocks, what lies below from the disk. See `checks.py`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from tests.support import family_cases as cases
from tests.support import stored
from tests.support.family_cases import TinyFamily
from tests.support.family_checks.checks_training import same_gradients
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.errors import ConfigError
from vlm_lit.models.attention import unpackable
from vlm_lit.models.families import names_of
from vlm_lit.models.parts import PartSettings
from vlm_lit.schema import EvaluationBatch, StepBatch
from vlm_lit.training.answering import Answering


def boundary(tiny: TinyFamily, folder: Path) -> str | None:
    """LoRA on the tower's last block alone, and the blocks below from the disk: loss, gradients and answers as live."""
    asked = cases.parts(vision_tower=PartSettings(precision="fp32", training="lora", last_layers=1))
    if tiny.name == "mllama":
        with pytest.raises(ConfigError, match="is not one stack of blocks"):
            cases.module(folder, asked)
        return "LoRA on the tower's last blocks alone: its tower is two stacks of blocks"
    module = cases.module(folder, asked)
    family, encoder = module.family, cases.encoder(folder)
    assert family is not None
    assert family.boundary is not None
    policy = OverLengthPolicy(encoder, None, "error")
    talks = cases.about_one_picture(2)[:: 1 if tiny.turns else 2] + cases.about_one_picture(2, seed=3)[:1]
    with TemporaryDirectory() as root:
        store = stored.filled(Path(root), module.base, family, encoder, talks)
        for packing in {False, unpackable(module.base, family) is None}:
            steps = [StepCollator(encoder, policy, 8, packing=packing, store=s)(talks) for s in (store, None)]
            found, expected = (w.micro_batches[0] for w in steps if isinstance(w, StepBatch))
            assert found.features is not None
            assert not any(name.startswith("pixel") for name in found.inputs)
            with torch.no_grad():
                torch.testing.assert_close(module.loss(found), module.loss(expected), rtol=1e-6, atol=0)
            gradients = cases.gradients(module, expected)
            same_gradients(cases.gradients(module, found), gradients)
            recomputed = cases.module(folder, asked, checkpointing=True)
            recomputed.train()
            same_gradients(cases.gradients(recomputed, found), gradients)
            moved = [name for name in names_of("vision_tower", gradients, family) if gradients[name] is not None]
            above = f"{family.boundary.blocks}.{family.boundary.first}."
            assert moved
            assert all(name.startswith(above) and ".lora_" in name for name in moved)
            assert all(bool(gradients[name].abs().sum() > 0) for name in moved)  # type: ignore[union-attr]
            assert module.model is not None
            answering = Answering(module.model, family, encoder)
            prompts = [PromptCollator(encoder, policy, packing=packing, store=s)(talks) for s in (store, None)]
            asked_of = [w.batches[0] for w in prompts if isinstance(w, EvaluationBatch)]
            said, same = ([reply.text for reply in answering.replies(batch, 6)] for batch in asked_of)
            assert said == same
    return None
