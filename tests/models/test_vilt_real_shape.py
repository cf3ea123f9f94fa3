"""Tests of ViLT at its published shape, without weights: parameters of each part, and what each choice trains."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from transformers import ViltConfig

from tests.support import classifiers as cases
from tests.support.classifiers import FP32, FULL
from vlm_lit.models.adapters import attach_adapters
from vlm_lit.models.answer_head import name_answers
from vlm_lit.models.lora_settings import LoraSettings
from vlm_lit.models.parts import PartRow, PartSettings, PartsSettings, parts_table, trainable_percent
from vlm_lit.models.shapes import shaped_base

N: Final = 3129  # answers of VQAv2 that ViLT knows
# By hand. Words: 30,522 + 40 places + 2 kinds + the two vectors of a norm; patches: a start, 32 x 32 x 3 pixels and a
# bias, 145 places, 2 kinds; each 768 wide.
EMBEDDINGS: Final = 768 * (30522 + 40 + 2 + 2) + 768 * (1 + 32 * 32 * 3 + 1 + 145 + 2)
# Query, key, value and output with biases; the feed-forward block; two norms.
LAYER: Final = 4 * (768 * 768 + 768) + (768 * 3072 + 3072) + (3072 * 768 + 768) + 2 * 2 * 768
ABOVE: Final = 2 * 768 + (768 * 768 + 768)  # norm and pooler
HEAD: Final = (768 * 1536 + 1536) + 2 * 1536 + (1536 * N + N)


def last(layers: int | None) -> PartSettings:
    return replace(FULL, last_layers=layers)


def table(parts: PartsSettings, **lora: object) -> dict[str, PartRow]:
    config = ViltConfig()  # whose defaults are the published shape
    name_answers(config, [str(answer) for answer in range(N)])
    base, family = shaped_base(config, parts=parts, quantization=cases.QUANTIZATION)
    plain = base.num_parameters()
    adapted = attach_adapters(base, family, parts, LoraSettings(**lora), seed=0)  # type: ignore[arg-type]
    rows = {row.part: row for row in parts_table(adapted.get_base_model(), family, parts, 1e-4)}
    if parts.language_model.precision != "nf4":  # whose packed weights transformers counts by two
        assert sum(row.parameters for row in rows.values()) == plain
    return dict(rows)  # type: ignore[arg-type]


def test_each_part_holds_what_is_worked_out_by_hand() -> None:
    rows = table(cases.parts())
    assert {part: row.parameters for part, row in rows.items()} == {
        "embeddings": 25_948_416, "language_model": 85_646_592, "head": 5_993_529,
    }  # fmt: skip
    assert (EMBEDDINGS, 12 * LAYER + ABOVE, HEAD) == (25_948_416, 85_646_592, 5_993_529)
    assert sum(row.parameters for row in rows.values()) == 117_588_537


@pytest.mark.parametrize(
    ("words", "embeddings", "trained", "percent"),
    [
        (FP32, FP32, {"head": HEAD}, 5.097),
        (last(2), FP32, {"language_model": 2 * LAYER + ABOVE, "head": HEAD}, 17.656),
        (last(6), FP32, {"language_model": 6 * LAYER + ABOVE, "head": HEAD}, 41.767),
        (last(12), FP32, {"language_model": 12 * LAYER + ABOVE, "head": HEAD}, 77.933),
        (FULL, FULL, {"embeddings": EMBEDDINGS, "language_model": 12 * LAYER + ABOVE, "head": HEAD}, 100.0),
    ],
    ids=["head", "last 2", "last 6", "last 12", "all"],
)
def test_what_each_choice_trains(
    words: PartSettings, embeddings: PartSettings, trained: dict[str, int], percent: float
) -> None:
    rows = table(cases.parts(language_model=words, embeddings=embeddings))
    assert {part: row.trainable for part, row in rows.items() if row.trainable} == trained
    assert trainable_percent(list(rows.values())) == pytest.approx(percent, abs=5e-4)


@pytest.mark.parametrize("precision", ["fp32", "nf4"])
def test_what_lora_trains(precision: str) -> None:
    parts = cases.parts(language_model=PartSettings(precision=precision, training="lora"))  # type: ignore[arg-type]
    attention = table(parts, rank=16)["language_model"]
    both = table(parts, rank=16, targets=["attention", "mlp"])["language_model"]
    assert attention.trainable == 12 * 4 * 16 * (768 + 768) == 1_179_648
    assert both.trainable == 1_179_648 + 12 * 2 * 16 * (768 + 3072) == 2_654_208
    assert attention.parameters == both.parameters == 12 * LAYER + ABOVE
    assert attention.modules_4bit == (12 * 6 + 1 if precision == "nf4" else 0)
