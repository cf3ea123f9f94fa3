"""Tests of the drawn products: the same in both forms, their colour told by the picture alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import datasets
import pytest
import yaml
from draw_products import KINDS, item, items, write_messages, write_parquet
from product_pictures import COLOURS, PATTERNS, SHAPES

from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.images.images import load_image, load_images, to_image_ref
from vlm_lit.data.records.records import read_records
from vlm_lit.schema import Conversation

CONFIG = Path(__file__).parents[2] / "configs" / "data" / "product_descriptions.yaml"
SETTINGS = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["init_args"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def said(conversation: Conversation) -> list[tuple[str, object]]:
    """Turns and pictures, without where they came from."""
    turns: list[tuple[str, object]] = [(turn.role, turn.content) for turn in conversation.turns]
    return [*turns, ("image", load_images(conversation)[0].tobytes())]


def from_parquet(path: Path) -> list[Conversation]:
    """The products as the config reads them."""
    records = read_records(path, columns=SETTINGS["train"]["columns"])
    return [to_conversation(record, prompt=SETTINGS["prompt"], requires_answer=True) for record in records]


@pytest.mark.parametrize("inline", [False, True])
def test_both_forms_hold_the_same_conversations(tmp_path: Path, inline: bool) -> None:
    made = items(6, seed=1)
    write_parquet(made, tmp_path / "products.parquet")
    write_messages(made, tmp_path, inline=inline)
    assert (tmp_path / "images").exists() != inline
    written = [to_conversation(r, requires_answer=True) for r in read_records(tmp_path / "messages.jsonl")]
    assert [said(c) for c in written] == [said(c) for c in from_parquet(tmp_path / "products.parquet")]
    assert written[0].references == (made[0].description,)


def test_the_same_seed_makes_the_same_items() -> None:
    assert items(5, seed=1) == items(5, seed=1)
    assert items(5, seed=1) != items(5, seed=2)


def test_looks_are_used_evenly() -> None:
    made = items(3, seed=0)
    assert len({one.picture for one in made}) == len({one.description for one in made}) == 3
    assert set(KINDS) == set(SHAPES)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("colour", ["red", "blue", "yellow"])
def test_the_picture_shows_the_colour_that_only_the_description_names(kind: str, colour: str) -> None:
    one = item(kind, colour, "plain", Random(3))
    assert colour in one.description
    assert colour not in (one.name + one.category).lower()
    picture = load_image(to_image_ref(one.picture, None)).resize((64, 64))
    pixels = {picture.getpixel((x, y)) for x in range(64) for y in range(64)}
    nearest = min(_distance(pixel, COLOURS[colour]) for pixel in pixels)
    assert nearest < 40
    assert all(min(_distance(p, COLOURS[other]) for p in pixels) > nearest for other in COLOURS if other != colour)


def _distance(pixel: object, colour: tuple[int, int, int]) -> float:
    assert isinstance(pixel, tuple)
    return float(sum((a - b) ** 2 for a, b in zip(pixel, colour, strict=True)) ** 0.5)


def test_patterns_can_be_told_apart() -> None:
    pictures = [item("box", "red", pattern, Random(3)).picture for pattern in PATTERNS]
    assert len(set(pictures)) == len(PATTERNS)
