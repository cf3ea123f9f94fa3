"""Tests of rows made without pixels: they are the rows that the processor makes with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import is_torchvision_available

from tests.support import family_cases as cases
from tests.support import tiny_models
from tests.support.family_cases import TINY
from vlm_lit.data.checkpoint.processors import ImageBackend
from vlm_lit.data.distinct_images import process_image
from vlm_lit.data.features.stored_images import StoredImage, features_of
from vlm_lit.data.images.images import load_images
from vlm_lit.schema import IMAGE, Conversation, ImageRef, TokenBatch, Turn

BACKENDS: list[Any] = ["pil"]
if is_torchvision_available():
    BACKENDS.append("torchvision")


def _stored(folder: Path, conversation: Conversation, backend: ImageBackend = "pil") -> list[StoredImage]:
    """A conversation's images as a store would have them, features left out."""
    processor = cases.encoder(folder, backend).processor
    alone = [replace(conversation, images=(ref,)) for ref in conversation.images]
    return [process_image(processor, "key", shown).image for shown in alone]


def _pair(
    folder: Path, talks: list[Conversation], *, asked: bool = False, backend: ImageBackend = "pil"
) -> tuple[TokenBatch, TokenBatch]:
    encoder = cases.encoder(folder, backend)
    found, expected = (
        encoder.encode(talks, pictures, side="left" if asked else "right", for_generation=asked)
        for pictures in ([_stored(folder, c, backend) for c in talks], [load_images(c) for c in talks])
    )
    return found, expected


def _same(found: TokenBatch, expected: TokenBatch) -> None:
    assert torch.equal(found.labels, expected.labels)
    assert found.lengths == expected.lengths
    pixels = {name for name in expected.inputs if name.startswith("pixel")}
    assert pixels
    assert found.inputs.keys() == expected.inputs.keys() - pixels
    for name in found.inputs:
        if not name.startswith("aspect_ratio"):
            assert torch.equal(found.inputs[name], expected.inputs[name]), name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", TINY)
def test_a_row_without_pixels_is_the_row_with_them(name: str, backend: ImageBackend, folders: dict[str, Path]) -> None:
    for images in (1, 2):
        turns = 2 if TINY[name].turns else 1
        talks = [cases.conversation(images, turns, seed) for seed in range(3)]
        for asked in (False, True):
            _same(*_pair(folders[name], talks, asked=asked, backend=backend))


@pytest.mark.parametrize("name", ["llava", "smolvlm", "paligemma"])
def test_a_typed_control_string_stays_text(name: str, folders: dict[str, Path]) -> None:
    typed = str(cases.encoder(folders[name]).processor.image_token)
    turns = (
        Turn(role="user", content=(IMAGE, f"what does {typed} mean?")),
        Turn(role="assistant", content=(f"{typed} is no picture",)),
    )
    picture = ImageRef(pixels=tiny_models.picture(1, (90, 44)))
    _same(*_pair(folders[name], [Conversation(id="typed", turns=turns, images=(picture,))]))


def test_features_stand_in_the_order_of_the_rows_and_decoded_images_have_none(folders: dict[str, Path]) -> None:
    talk = cases.conversation(1, 1)
    assert features_of([load_images(talk)]) is None
    assert features_of([[]]) is None
    kept = replace(_stored(folders["llava"], talk)[0], features=(torch.zeros(2), torch.zeros(3)))
    assert [[len(t) for t in image] for image in features_of([[kept], [kept, kept]]) or []] == [[2, 3]] * 3
