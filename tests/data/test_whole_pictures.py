"""Tests of the look at an image file's end: what was cut is found without decoding, what is whole is not refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from tests.support import tiny_models
from vlm_lit.data.images import whole_pictures
from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.data.images.images import check_image
from vlm_lit.data.images.whole_pictures import examine, looks_whole
from vlm_lit.schema import ImageRef

SIGNED = ("JPEG", "PNG", "GIF", "WEBP", "BMP")


def encoded(kind: str) -> bytes:
    """A noisy picture: of an even one, half the bytes may hold all of it."""
    from PIL import Image

    file = BytesIO()
    noise = np.random.default_rng(0).normal(128, 80, (70, 90)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noise).convert("RGB").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", SIGNED)
def test_a_whole_file_is_known_without_decoding(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(whole_pictures, "load_image", None)
    (tmp_path / "a").write_bytes(encoded(kind))
    for ref in (ImageRef(data=encoded(kind)), ImageRef(path=tmp_path / "a")):
        assert looks_whole(ref)
        examine(ref, "header")


@pytest.mark.parametrize("kind", [*SIGNED, "TIFF"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_cut_file_is_found(kind: str, share: float) -> None:
    whole = encoded(kind)
    cut = ImageRef(data=whole[: int(len(whole) * share)])
    assert not looks_whole(cut)
    with pytest.raises(ImageProblem) as found:
        examine(cut, "header")
    assert found.value.code in ("image.truncated", "image.damaged")


def test_zeros_behind_a_jpeg_are_no_part_of_it() -> None:
    assert looks_whole(ImageRef(data=encoded("JPEG") + bytes(100)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_file_with_something_behind_its_picture_is_decoded_and_taken(kind: str) -> None:
    examine(ImageRef(data=encoded(kind) + b"a film, as telephones write it"), "header")


def test_damage_in_the_middle_is_found_by_decoding_alone() -> None:
    content = bytearray(encoded("PNG"))
    content[len(content) // 2] ^= 0xFF
    ref = ImageRef(data=bytes(content))
    examine(ref, "header")
    with pytest.raises(ImageProblem):
        examine(ref, "full")


def test_a_mode_without_a_range_is_seen_in_the_header(tmp_path: Path) -> None:
    tiny_models.picture(0).convert("F").save(tmp_path / "float.tiff")
    with pytest.raises(ImageProblem) as found:
        check_image(ImageRef(path=tmp_path / "float.tiff"))
    assert found.value.code == "image.mode"
