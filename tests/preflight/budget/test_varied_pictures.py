"""Tests of pictures that vary in tiles or tokens: a step with the largest of them needs what a real one was seen to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.support import tiny_models
from tests.support.budget_cases import SUPERVISED, loaded, module, parts
from tests.support.family_cases import encode, encoder
from tests.support.tiny_families.catalogue import TINY, save
from vlm_lit.data.checkpoint.processors import load_processor
from vlm_lit.models import tower_chunks
from vlm_lit.models.families import asked_of_pictures
from vlm_lit.models.loading import load_config
from vlm_lit.models.parts import PartSettings, Training
from vlm_lit.preflight.budget.estimate import Estimator
from vlm_lit.preflight.budget.hollow_module import resident
from vlm_lit.preflight.budget.ledger import Ledger
from vlm_lit.preflight.budget.needs import Needs
from vlm_lit.preflight.budget.pictures import NoPictures, Pictures, pictures_of
from vlm_lit.preflight.budget.recipes import Recipe
from vlm_lit.preflight.budget.rows import LongestRow
from vlm_lit.schema import IGNORE_INDEX, IMAGE, Conversation, ImageRef, TokenBatch, Turn
from vlm_lit.training.supervised import SupervisedModule

LENGTH = 200
TOLERANCE = 0.005
VARIED = ["idefics3", "internvl", "llava_next", "mllama", "pixtral", "qwen2_5_vl", "qwen2_vl", "qwen3_vl", "smolvlm"]

Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return lru_cache(lambda name: save(name, tmp_path_factory.mktemp(name)))


def test_these_are_all_whose_pictures_vary() -> None:
    asked = {name for name, tiny in TINY.items() if asked_of_pictures(tiny.model_type, name) is not None}
    assert sorted(asked) == VARIED


@lru_cache
def pictures(folder: Path, images: int = 1, length: int = LENGTH) -> Pictures:
    found = pictures_of(partial(load_processor, str(folder)), images, length)
    assert isinstance(found, Pictures)
    return found


def batch(made: SupervisedModule, folder: Path, rows: int, images: int) -> TokenBatch:
    """Rows as the run's own encoder makes them of the same pictures, filled up to `LENGTH` as an estimate's are."""
    size = pictures(folder, images).size or (50, 60)
    pixels: Image.Image = tiny_models.picture(0, size)
    turns = (Turn(role="user", content=(*(IMAGE,) * images, "what?")), Turn(role="assistant", content=("red",)))
    talk = Conversation(id="", turns=turns, images=(ImageRef(pixels=pixels),) * images)
    real = encode(encoder(folder), [talk] * rows).inputs
    had = real["input_ids"].shape[1]
    inputs = {name: _longer(value) if value.shape[1:2] == (had,) else value for name, value in real.items()}
    seen = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    assert made.family is not None
    places = (4, rows, LENGTH) if made.family.positions == "mrope" else (rows, LENGTH)
    inputs["attention_mask"] = seen.expand(rows, 1, LENGTH, LENGTH).clone()
    inputs["position_ids"] = torch.arange(LENGTH).expand(places).clone()
    labels = torch.full((rows, LENGTH), IGNORE_INDEX)
    labels[:, -SUPERVISED:] = 7
    return TokenBatch(inputs=inputs, labels=labels, ids=[])


def _longer(value: torch.Tensor) -> torch.Tensor:
    """A field [B, T, ...] with its last token again up to `LENGTH`."""
    return torch.cat([value, value[:, -1:].expand(-1, LENGTH - value.shape[1], *value.shape[2:])], 1)


def compared(
    folder: Path, training: Training, *, checkpointing: bool, images: int = 1, rows: tuple[int, ...] = (1, 3)
) -> list[tuple[int, int]]:
    """What was reckoned and what a real step took at most, for each number of rows."""
    asked = replace(parts("fp32"), vision_tower=PartSettings(precision="fp32", training=training))
    made = partial(module, folder, asked, checkpointing=checkpointing)
    unread, real = made(), loaded(made())
    estimator = Estimator(unread, load_config(str(folder)), unread.trainer)
    estimator.pictures = pictures(folder, images)
    row = LongestRow(length=LENGTH, supervised=SUPERVISED, images=images, source="")
    needs = estimator.needs(Recipe(name="", parts=asked), row)
    assert isinstance(needs, Needs)
    found = []
    for count in rows:
        shown = batch(real, folder, count, images)
        with Ledger(1, resident(real)) as ledger:
            inputs = {name: value.clone() for name, value in shown.inputs.items()}
            real.loss(replace(shown, inputs=inputs, labels=shown.labels.clone())).backward()  # type: ignore[no-untyped-call]
            del inputs
        kept = needs.kept(count, checkpointing=checkpointing) + needs.head(count)
        found.append((max(needs.backbone[checkpointing].peak.at(count), kept), ledger.peak.at(1)))
    return found


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("training", ["lora", "frozen", "full"])
@pytest.mark.parametrize("name", VARIED)
def test_a_real_step_takes_what_was_reckoned(
    name: str, training: Training, checkpointing: bool, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "pixtral":  # as with its published settings, under which the largest picture fills a chunk
        monkeypatch.setattr(tower_chunks, "MOST_PATCHES", 16)
    for reckoned, real in compared(saved(name), training, checkpointing=checkpointing):
        # Rotary positions of Pixtral's chunks are made of no picture's part: those of 13 rows are counted for one.
        assert reckoned == pytest.approx(real, rel=0.05 if name == "pixtral" else TOLERANCE)


@pytest.mark.slow
def test_pictures_that_share_an_attention_of_pixtrals_tower_are_off_by_its_mask(saved: Saved) -> None:
    # It grows with the square of the pictures in a chunk, and is taken to grow with their number.
    for reckoned, real in compared(saved("pixtral"), "full", checkpointing=False):
        assert real <= reckoned == pytest.approx(real, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2_vl", "mllama", "llava_next"])
def test_several_pictures_in_a_row_are_counted(name: str, saved: Saved) -> None:
    for reckoned, real in compared(saved(name), "lora", checkpointing=False, images=2):
        assert reckoned == pytest.approx(real, rel=TOLERANCE)


@pytest.mark.parametrize("name", ["qwen2_vl", "pixtral"])
def test_the_largest_picture_is_that_of_the_settings_or_of_the_row(name: str, saved: Saved) -> None:
    free, tight = pictures(saved(name)), pictures(saved(name), length=15)
    assert free.largest
    assert not tight.largest
    assert tight.tokens < 15 <= free.tokens
    assert "that the processor's settings allow" in free.words
    assert "that fits in the row" in tight.words


def test_a_row_too_short_for_any_picture_has_none(saved: Saved) -> None:
    found = pictures_of(partial(load_processor, str(saved("idefics3"))), 2, 8)
    assert isinstance(found, NoPictures)
    assert "no picture fits in a row of 8 tokens" in found.reason


def test_a_checkpoint_without_processor_has_no_pictures(tmp_path: Path) -> None:
    found = pictures_of(partial(load_processor, str(tmp_path)), 1, 200)
    assert isinstance(found, NoPictures)
    assert found.reason.startswith("there is no processor to ask")
