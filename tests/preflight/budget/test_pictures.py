"""Tests of a picture's tokens: counted where all pictures take the same, else said to be uncounted."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support import family_cases as cases
from tests.support import tiny_models
from tests.support.budget_cases import module, parts, trainer
from tests.support.tiny_families.catalogue import TINY, save
from vlm_lit.models.loading import load_config
from vlm_lit.preflight.budget.estimate import Estimator
from vlm_lit.schema import IMAGE, Conversation, ImageRef, TokenBatch, Turn


def asked_about(folder: Path, size: tuple[int, int]) -> TokenBatch:
    """A question about a picture of `size` = (width, height), as the checkpoint's own processor writes it."""
    pixels: Image.Image = tiny_models.picture(0, size)
    turns = (Turn(role="user", content=(IMAGE, "what is it?")), Turn(role="assistant", content=("red",)))
    return cases.encode(cases.encoder(folder), [Conversation(id="one", turns=turns, images=(ImageRef(pixels=pixels),))])


def taken(batch: TokenBatch) -> dict[str, object]:
    """What the model is shown, but for the pixels' values: shapes, and what is said of the picture."""
    told = [key for key in batch.inputs if "image_" in key or "aspect" in key]
    return {key: value.tolist() if key in told else value.shape for key, value in batch.inputs.items()}


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_picture_is_counted_where_all_take_the_same(name: str, tmp_path: Path) -> None:
    folder, config = save(name, tmp_path / name), load_config(str(tmp_path / name))
    estimator = Estimator(module(folder, parts("fp32")), config, trainer())
    wide, high = (asked_about(folder, size) for size in ((150, 30), (30, 40)))
    assert (estimator.asked is None) == (taken(wide) == taken(high))
    tokens = (wide.inputs["input_ids"] == config.image_token_id).sum().item()
    assert estimator.picture().tokens == (tokens if estimator.asked is None else None)
