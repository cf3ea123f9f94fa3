"""Tests of left-padded prompts that are read once: scores and answers are those of transformers' own generation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support import family_cases as cases
from tests.support.running_cases import alone, joined
from tests.support.tiny_families.catalogue import TINY, save
from vlm_lit.data.answers.candidates import candidate_tokens
from vlm_lit.models import closed_set
from vlm_lit.models.attention import readable_once
from vlm_lit.models.families import FAMILIES, Family
from vlm_lit.models.generation import StopTokens, without_adapter_shell
from vlm_lit.schema import PromptBatch

ANSWERS = ["red", "red tools", "red tools and lamps", "two", "yes", "no", "no lamp"]


@pytest.fixture(params=["mllama", "paligemma", "gemma3", "llava"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def family(kind: str) -> Family:
    return FAMILIES[TINY[kind].model_type]


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    return save(kind, tmp_path)


@pytest.fixture
def model(folder: Path) -> nn.Module:
    return cases.adapted(folder)


@pytest.fixture
def batches(folder: Path, kind: str) -> list[PromptBatch]:
    """Prompts of different lengths and numbers of images, in one of the batches without any where that can be."""
    encoder, turns = cases.encoder(folder), 2 if TINY[kind].turns else 1
    talks = [
        [cases.conversation(1, 1, 1), cases.conversation(1, turns, 2), cases.conversation(1, 1, 3)],
        [cases.conversation(min(TINY[kind].images), turns, 4), cases.conversation(min(TINY[kind].images), 1, 5)],
        [cases.conversation(2, turns, 6), cases.conversation(1, 1, 8)],
    ]
    return [batch for some in talks for batch in cases.prompts(encoder, some, packing=False)]


def test_an_answer_is_as_likely_as_step_by_step(
    model: nn.Module, family: Family, batches: list[PromptBatch], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = candidate_tokens(cases.encoder(folder), ANSWERS)
    for batch in batches:
        passes: list[int] = []
        layer = without_adapter_shell(model).get_submodule(f"{family.decoder_layers}.0")
        hook = layer.register_forward_pre_hook(lambda _, inputs, passes=passes: passes.append(inputs[0].shape[1]))
        found = closed_set.closed_set_scores(model, batch.inputs, None, asked, family=family, pad=2)
        hook.remove()
        assert passes[0] == batch.inputs["input_ids"].shape[1]
        assert len(passes) == 2, "the prompt, and behind it all answers"
        expected = [closed_set._forced(model, batch.inputs, said, 2) for said in asked]
        # Sums of up to a dozen log-probabilities of some nats each, in float32.
        torch.testing.assert_close(found, torch.stack(expected, 1), rtol=1e-5, atol=1e-4)
        with monkeypatch.context() as patched:
            patched.setattr(closed_set, "_AT_ONCE", 1)
            again = closed_set.closed_set_scores(model, batch.inputs, None, asked, family=family, pad=2)
        torch.testing.assert_close(again, found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", [3, 4])  # the likeliest token of a tiny Gemma is the same one again and again
def test_questions_that_join_are_answered_as_alone(
    model: nn.Module, family: Family, batches: list[PromptBatch], seed: int
) -> None:
    embeddings = without_adapter_shell(model).get_input_embeddings().num_embeddings
    never = (2, embeddings - 1)  # Mllama's image token, for which its head has no row
    endless = alone(model, family, batches, StopTokens(end_of_turn=(), pad=2, forbidden=never), seed)
    later = {token for said in endless for token in said[2:]} - {said[0] for said in endless}
    stop = StopTokens(end_of_turn=tuple(sorted(later)[::4]), pad=2, forbidden=never)
    expected = alone(model, family, batches, stop, seed)
    assert len({len(said) for said in expected}) >= 2, "some end before others"
    found, going_on = joined(model, family, batches, stop, seed, until=1)
    assert max(going_on) > 0, "some go on beside the next"
    assert found == expected


def test_prompts_are_read_once_only_where_their_masks_and_positions_can_be_said() -> None:
    models = {kind: TINY[kind].build(0)[0] for kind in ("mllama", "paligemma", "gemma3", "llava", "qwen2_vl")}
    can = {kind: readable_once(model, FAMILIES[TINY[kind].model_type]) for kind, model in models.items()}
    assert can == {"mllama": True, "paligemma": True, "gemma3": True, "llava": True, "qwen2_vl": False}
    # PaliGemma 2, whose text model has layers that see a window, and which takes one mask alone.
    models["paligemma"].config.get_text_config().sliding_window = 32
    assert not readable_once(models["paligemma"], FAMILIES["paligemma"])
    models["gemma3"].config.get_text_config()._attn_implementation = "flash_attention_2"
    assert not readable_once(models["gemma3"], FAMILIES["gemma3"])
