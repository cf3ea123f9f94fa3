"""Tests of the largest micro-batch: one row more would not fit, and the recipes stand side by side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vlm_lit.models.families import FAMILIES
from vlm_lit.models.parts import PartSettings, PartsSettings
from vlm_lit.preflight.budget.gpus import GPUS, MOST_ROWS, Gpu, most_rows
from vlm_lit.preflight.budget.recipes import recipes


@given(st.integers(0, 30 * 10**9), st.integers(1, 10**9))
def test_one_row_more_would_not_fit(fixed: int, each: int) -> None:
    def total(rows: int) -> int:
        return fixed + rows * each

    for gpu in GPUS:
        rows = most_rows(total, gpu)
        assert rows == 0 or total(rows) <= gpu.usable
        assert rows >= MOST_ROWS or total(rows + 1) > gpu.usable


def test_usable_memory_by_hand() -> None:
    # 24 x 10^9 - 1,073,741,824 bytes: 21.35 GiB of the 22.35 that 24 decimal gigabytes are.
    assert Gpu(names="any", gigabytes=24).usable == 22_926_258_176
    assert [gpu.gigabytes for gpu in GPUS] == [24, 40, 48, 80, 141]


def test_four_ways_stand_side_by_side_and_the_run_is_marked() -> None:
    qlora = PartsSettings()  # the package's defaults: NF4 with LoRA, projector in full
    found = recipes(qlora, FAMILIES["llava"])
    assert [recipe.name for recipe in found] == ["full", "LoRA", "int8", "QLoRA"]
    assert [recipe.name for recipe in found if recipe.configured] == ["QLoRA"]
    assert [recipe.parts.language_model.precision for recipe in found] == ["bf16", "bf16", "int8", "nf4"]
    full = found[0].parts
    assert (full.vision_tower.training, full.projector.training, full.head.training) == ("frozen", "full", "full")


def test_a_run_that_is_none_of_them_gets_a_column_of_its_own() -> None:
    trained_tower = PartsSettings(language_model=PartSettings(precision="fp32", training="lora"))
    found = recipes(trained_tower, FAMILIES["llava"])
    assert [r.name for r in found] == ["full", "LoRA", "int8", "QLoRA", "this run"]
    assert found[-1].parts == trained_tower


def test_a_run_of_the_last_layers_is_none_of_them_and_full_trains_the_parts_that_there_are() -> None:
    last = PartSettings(precision="bf16", training="full", last_layers=2)
    parts = PartsSettings(projector=PartSettings(), language_model=last)
    full, *_, own = recipes(parts, FAMILIES["vilt"])
    assert own.name == "this run"
    assert own.parts.language_model.last_layers == 2
    assert full.parts.language_model.last_layers is None
    assert full.parts.trained_as("full") == ["embeddings", "language_model", "head"]
