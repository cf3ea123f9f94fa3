"""Tests of the last decoder layer at the places that are read: when it stays whole, and layers of other kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, MllamaForConditionalGeneration
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from tests.support import family_cases as cases
from tests.support.family_checks.checks_training import same_gradients
from tests.support.tiny_families.catalogue import save
from tests.support.tiny_families.mllama import mllama
from vlm_lit.models import hidden_states, last_layer
from vlm_lit.models.class_before import class_before
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.last_layer import LastLayer, narrow_last_layer
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.schema import TokenBatch
from vlm_lit.training.supervised import SupervisedModule

LENGTH = 9
PLACES = torch.tensor([[2, 7], [5, 0]])


class Model(nn.Module):
    """Layers and rotary positions of a language model, at the paths of LLaVA's."""

    def __init__(self, **changed: object) -> None:
        super().__init__()
        config = LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            attn_implementation="sdpa", **changed,
        )  # fmt: skip
        self.model = nn.Module()
        self.model.language_model = nn.Module()
        layers = nn.ModuleList(LlamaDecoderLayer(config, index) for index in range(2))
        self.model.language_model.layers = layers
        self.rotary: Any = LlamaRotaryEmbedding(config)
        narrow_last_layer(self, FAMILIES["llava"])
        self.last: Any = layers[-1]

    def behind(self, hidden: torch.Tensor, *, narrow: bool, **options: object) -> torch.Tensor:
        """What the last layer makes of hidden states [B, L, D]."""
        positions = torch.arange(hidden.shape[1])[None]
        with last_layer.read_at(self, FAMILIES["llava"], PLACES if narrow else None):
            found: torch.Tensor = self.last(hidden, position_embeddings=self.rotary(hidden, positions), **options)
        return found


@pytest.fixture
def hidden() -> torch.Tensor:
    return torch.randn(2, LENGTH, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llava", tmp_path_factory.mktemp("llava"))


def test_the_read_places_of_a_layer(hidden: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = Model().eval()
    whole = model.behind(hidden, narrow=False)
    found = model.behind(hidden, narrow=True)
    assert found.shape == (2, 2, 32)
    torch.testing.assert_close(found, whole[torch.arange(2)[:, None], PLACES])
    mask = torch.zeros(2, 1, LENGTH, LENGTH).masked_fill_(torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1), -1e9)
    mask[1, :, :, 1] = -1e9  # a token that no other of its row sees
    mask[1, :, 1, 1] = 0
    whole = model.behind(hidden, narrow=False, attention_mask=mask)
    found = model.behind(hidden, narrow=True, attention_mask=mask)
    torch.testing.assert_close(found, whole[torch.arange(2)[:, None], PLACES])


def test_a_layer_that_is_given_more_stays_whole(hidden: torch.Tensor) -> None:
    model = Model().eval()
    for option in ({"per_layer_input": hidden}, {model.last.cache_name: _Fixed()}):
        assert model.behind(hidden, narrow=True, **option).shape == hidden.shape


class _Fixed:
    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor, ...]:
        return keys, values


class Asking(LlamaDecoderLayer):  # type: ignore[misc]
    """A layer that asks its cache for more than keys and values."""

    def forward(self, hidden: torch.Tensor, cache: object = None, **options: object) -> torch.Tensor:
        if cache is not None:
            cache.get_seq_length()  # type: ignore[attr-defined]
        return super().forward(hidden, **options)  # type: ignore[no-any-return]


def test_a_layer_that_asks_its_cache_for_more_is_computed_whole(hidden: torch.Tensor) -> None:
    model = Model().eval()
    whole = model.behind(hidden, narrow=False)
    model.last.__class__ = class_before(LastLayer, Asking)
    assert torch.equal(model.behind(hidden, narrow=True), whole[torch.arange(2)[:, None], PLACES])


def test_dropout_of_the_layer_keeps_its_draws(hidden: torch.Tensor) -> None:
    model = Model(attention_dropout=0.1)
    assert model.train().behind(hidden, narrow=True).shape == hidden.shape
    assert model.eval().behind(hidden, narrow=True).shape == (2, 2, 32)


def _module(folder: Path, *, dropout: float = 0.0) -> SupervisedModule:
    lora = LoraSettings(dropout=dropout, targets=["attention", "mlp"])
    made = SupervisedModule(str(folder), parts=cases.parts(), lora=lora, activation_checkpointing=False)
    made.configure_model()
    with torch.no_grad():
        for parameter in made.trainable_parameters():
            parameter.add_(0.05)  # an update of zero would show no dropout
    made.train()
    return made


def _losses(module: SupervisedModule, batch: TokenBatch) -> list[float]:
    found = []
    for share in (1.0, 0.0):
        torch.manual_seed(0)
        with patch.object(hidden_states, "FEW", share):
            found.append(float(module.loss(batch).detach()))
    return found


def test_a_run_with_dropout_loses_what_it_lost(folder: Path) -> None:
    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1)])
    narrow, whole = _losses(_module(folder, dropout=0.1), batch)
    assert narrow == whole


def test_a_batch_without_a_label_has_no_loss(folder: Path) -> None:
    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1)])
    batch.labels[:] = -100
    assert _losses(_module(folder), batch) == [0.0, 0.0]


def test_a_module_with_hidden_states_of_its_own_is_asked_for_them(folder: Path) -> None:
    class Doubled(SupervisedModule):
        def hidden_states(self, batch: TokenBatch) -> torch.Tensor:
            return 2 * super().hidden_states(batch)

    batch = cases.encode(cases.encoder(folder), [cases.conversation(1, 1)])
    made = _module(folder)
    before = made.supervised_states(batch)
    made.__class__ = Doubled
    torch.testing.assert_close(made.supervised_states(batch), 2 * before)


def test_llama_3_2_ends_in_a_layer_that_attends_to_its_row(tmp_path: Path) -> None:
    model, processor = mllama()
    config = model.config
    config.text_config.cross_attention_layers = [1, 2]
    torch.manual_seed(0)
    MllamaForConditionalGeneration(config).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    batch = cases.encode(cases.encoder(tmp_path), [cases.conversation(1, 1), cases.conversation(1, 2, 1)])
    module = cases.module(tmp_path)
    module.train()
    *_, last = module.base.get_submodule(FAMILIES["mllama"].decoder_layers).children()
    assert isinstance(last, LastLayer)
    with patch.object(hidden_states, "FEW", 1.0):
        found = cases.gradients(module, batch)
    with patch.object(hidden_states, "FEW", 0.0):
        same_gradients(found, cases.gradients(module, batch))
