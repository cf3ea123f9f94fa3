"""Tests of the head: its logits are those of the model's own forward pass, a soft cap where it has one."""

import pytest
import torch

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.models.head import head_logits


@pytest.mark.parametrize("kind", ["paligemma", "gemma3"])
@pytest.mark.parametrize("cap", [None, 0.5])
def test_logits_are_the_models_own(cap: float | None, kind: str) -> None:
    model, processor = TINY[kind].build(0)
    model.config.get_text_config().final_logit_softcapping = cap  # what makes it a PaliGemma 2 here
    batch = cases.encode(encoder_of(processor), [cases.conversation(1, 1)])
    with torch.no_grad():
        expected = model(**batch.inputs).logits
        found = head_logits(model, model.model(**batch.inputs).last_hidden_state)
    assert torch.equal(found, expected)
    assert cap is None or (float(found.abs().max()) <= cap) == (kind == "paligemma")
