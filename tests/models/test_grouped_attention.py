"""Tests of grouped attention: answers read the cache as it is, and read from it what they always did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import save
from vlm_lit.models import packed_rows
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.grouped_attention import heads_per_key
from vlm_lit.models.packed_rows import read
from vlm_lit.schema import PromptBatch
from vlm_lit.training.supervised import SupervisedModule

# The tiny LLaVA alone has a head of keys for each of queries.
GROUPED = [name for name, family in FAMILIES.items() if family.unpackable is None and name != "llava"]


def prompts(folder: Path) -> PromptBatch:
    """Four questions about one picture and two about another, in two rows."""
    talks = cases.about_one_picture(1) + cases.about_one_picture(1, seed=3)[:2]
    (batch,) = cases.prompts(cases.encoder(folder), talks, packing=True)
    return batch


def appended(module: SupervisedModule, batch: PromptBatch, name: str) -> list[Tensor]:
    """Hidden states of three tokens, then of one, behind every question, and behind all but the first."""
    assert batch.segments is not None
    with torch.no_grad():
        reader = read(module.base, batch.inputs, batch.segments, FAMILIES[name])
        all_of_them = range(len(reader.rows))
        tokens = torch.arange(3 * len(all_of_them)).view(-1, 3) + 40
        three = reader.append(all_of_them, tokens, torch.arange(3), torch.ones(3, 3, dtype=torch.bool).tril())
        one = reader.append(all_of_them[1:], tokens[1:, :1], torch.tensor([3]), torch.ones(1, 1, dtype=torch.bool))
    return [three, one]


@pytest.mark.parametrize("name", GROUPED)
def test_what_is_said_reads_the_same_from_a_cache_that_is_not_repeated(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(name, tmp_path)
    module, batch = cases.module(folder).eval(), prompts(folder)
    backbone = FAMILIES[name].backbone_of(module.base)
    assert heads_per_key(backbone) == 2, "two heads of queries for each of keys"
    heads: list[tuple[int, int]] = []
    plain = nn.functional.scaled_dot_product_attention

    def noted(query: Tensor, key: Tensor, *rest: Tensor, **named: object) -> Tensor:
        heads.append((query.shape[1], key.shape[1]))
        return plain(query, key, *rest, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(nn.functional, "scaled_dot_product_attention", noted)
        found = appended(module, batch, name)
    layers = backbone.config.get_text_config().num_hidden_layers
    assert heads[-2 * layers :] == [(2, 2)] * (2 * layers)
    assert backbone.config.get_text_config()._attn_implementation == "sdpa", "other passes attend as before"
    monkeypatch.setattr(packed_rows, "heads_per_key", lambda _: 1)
    for one, other in zip(found, appended(module, batch, name), strict=True):
        # float32, the keys summed over in another order.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_one_head_of_keys_for_each_of_queries_is_left_as_it_is(tiny_llava: Path) -> None:
    module = cases.module(tiny_llava)
    assert heads_per_key(FAMILIES["llava"].backbone_of(module.base)) == 1


def test_eager_attention_is_left_as_it_is(tmp_path: Path) -> None:
    folder = save("qwen2_vl", tmp_path)
    module, batch = cases.module(folder).eval(), prompts(folder)
    expected = appended(module, batch, "qwen2_vl")
    module.base.set_attn_implementation("eager")  # type: ignore[operator]
    assert heads_per_key(FAMILIES["qwen2_vl"].backbone_of(module.base)) == 1
    for one, other in zip(appended(module, batch, "qwen2_vl"), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
