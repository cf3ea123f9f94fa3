"""Tests of images: the pixels that a person would see, or a refusal, and nothing in between."""

from __future__ import annotations

import base64
import io
import os
import pickle
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from vlm_lit.data.images.image_paths import ImageProblem, resolve_image_path
from vlm_lit.data.images.images import check_image, check_images, load_image, load_images, to_image_ref
from vlm_lit.errors import RecordError
from vlm_lit.schema import IMAGE, Conversation, ImageRef, Turn


def _encoded(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def _noise(mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> Image.Image:
    layers = [Image.effect_noise(size, 90) for _ in range(3)]
    return Image.merge("RGB", layers).convert(mode)


def _png(width: int, height: int, *, bits: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG file written by hand, so that its header can promise anything."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _frames(format_: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    return _encoded(frames[0], format_, save_all=True, append_images=frames[1:])


BAD_IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG cut in half": (lambda: _half(_encoded(_noise(), "JPEG")), "image.truncated"),
    "progressive JPEG cut in half": (lambda: _half(_encoded(_noise(), "JPEG", progressive=True)), "image.truncated"),
    "JPEG header only": (lambda: _encoded(_noise(), "JPEG")[:400], "image.truncated"),
    "PNG cut in half": (lambda: _half(_encoded(_noise())), "image.truncated"),
    "PNG without pixels": (lambda: _png(4, 4), "image.truncated"),
    "PNG with a wrong checksum": (lambda: _flipped(_encoded(_noise()), 300), "image.damaged"),
    "GIF cut in half": (lambda: _half(_encoded(_noise("P"), "GIF")), "image.truncated"),
    "BMP cut in half": (lambda: _half(_encoded(_noise(), "BMP")), "image.truncated"),
    "TIFF cut in half": (lambda: _half(_encoded(_noise(), "TIFF")), "image.truncated"),
    "WEBP cut in half": (lambda: _half(_encoded(_noise(), "WEBP")), "image.damaged"),
    "empty file": (lambda: b"", "image.empty"),
    "PNG signature alone": (lambda: b"\x89PNG\r\n\x1a\n", "image.format"),
    "random bytes": (lambda: bytes(range(256)), "image.format"),
    "HTML error page": (lambda: b"<!DOCTYPE html><html><body>404</body></html>", "image.web_page"),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image.web_page"),
    "PDF": (lambda: _encoded(_noise(), "PDF"), "image.format"),
    "EPS": (lambda: _encoded(_noise(), "EPS"), "image.format"),
    "ICO": (lambda: _encoded(_noise(), "ICO"), "image.format"),
    "PPM": (lambda: _encoded(_noise(), "PPM"), "image.format"),
    "JPEG 2000": (lambda: b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\0" * 40, "image.format"),
    "Git LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "image.lfs_pointer"),
    "90 million pixels": (lambda: _png(9500, 9500), "image.pixels"),
    "400 million pixels": (lambda: _png(20000, 20000), "image.pixels"),
    "beyond any memory": (lambda: _png(2**31 - 1, 2**31 - 1), "image.pixels"),
    "201 times as wide as high": (lambda: _encoded(Image.new("L", (201, 1))), "image.aspect"),
    "4000 times as high as wide": (lambda: _encoded(Image.new("L", (1, 4000))), "image.aspect"),
    "no width": (lambda: _png(0, 4), "image.format"),
    "float TIFF": (lambda: _encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "image.mode"),
    "32-bit TIFF": (lambda: _encoded(Image.new("I", (4, 4), 70000), "TIFF"), "image.mode"),
    "animated GIF": (lambda: _frames("GIF"), "image.animated"),
    "animated WEBP": (lambda: _frames("WEBP"), "image.animated"),
    "animated PNG": (lambda: _frames("PNG"), "image.animated"),
    "TIFF of two pages": (lambda: _frames("TIFF"), "image.animated"),
}


@pytest.mark.parametrize(("data", "code"), BAD_IMAGES.values(), ids=BAD_IMAGES)
@pytest.mark.parametrize("held_in", ["file", "record"])
def test_a_bad_image_is_refused(tmp_path: Path, data: Callable[[], bytes], code: str, held_in: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(data())
    ref = ImageRef(path=path) if held_in == "file" else ImageRef(data=data())
    with pytest.raises(ImageProblem) as caught:
        load_image(ref)
    assert caught.value.code == code


HEADER_CODES = {"image.empty", "image.format", "image.pixels", "image.aspect", "image.animated"}
SEEN_IN_HEADER = {name: data for name, (data, code) in BAD_IMAGES.items() if code in HEADER_CODES}


@pytest.mark.parametrize("data", SEEN_IN_HEADER.values(), ids=SEEN_IN_HEADER)
def test_what_the_header_shows_is_refused_without_decoding(
    data: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = data()
    monkeypatch.setattr(Image.Image, "convert", lambda *_, **__: pytest.fail("pixels were converted"))
    with pytest.raises(ImageProblem):
        check_image(ImageRef(data=encoded))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageProblem, match="image_root") as caught:
        check_image(ImageRef(path=tmp_path / "none.png"))
    assert caught.value.code == "image.missing"


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.png"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(ImageProblem) as caught:
        check_image(ImageRef(path=path))
    assert caught.value.code == "image.not_a_file"


def test_pixels_without_extent_are_refused() -> None:
    with pytest.raises(ImageProblem) as caught:
        check_image(ImageRef(pixels=Image.new("RGB", (0, 4))))
    assert caught.value.code == "image.empty"


def test_the_pixel_cap_can_be_lowered() -> None:
    ref = ImageRef(data=_encoded(Image.new("L", (10, 10))))
    assert check_image(ref, max_pixels=100) == (10, 10)
    with pytest.raises(ImageProblem, match="99") as caught:
        load_image(ref, max_pixels=99)
    assert caught.value.code == "image.pixels"


def test_truncated_images_stay_refused_when_another_library_allows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = _half(_encoded(_noise(), "JPEG"))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert Image.open(io.BytesIO(cut)).convert("RGB").size == (96, 64)  # what they would train on
    with pytest.raises(ImageProblem):
        load_image(ImageRef(data=cut))


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats_give_their_pixels(tmp_path: Path, format_: str) -> None:
    original = _noise("P" if format_ == "GIF" else "RGB")
    path = tmp_path / "image.any"  # the ending says nothing
    path.write_bytes(_encoded(original, format_))
    found = load_image(ImageRef(path=path))
    assert found.mode == "RGB"
    assert found.tobytes() == original.convert("RGB").tobytes()


@pytest.mark.parametrize("format_", ["JPEG", "WEBP"])
def test_lossy_formats_are_read(format_: str) -> None:
    found = load_image(ImageRef(data=_encoded(Image.new("RGB", (16, 16), (10, 200, 30)), format_)))
    assert all(abs(a - b) <= 6 for a, b in zip(_pixel(found), (10, 200, 30), strict=True))


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr", "LAB"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert load_image(ImageRef(data=_encoded(_noise(mode), "TIFF"))).mode == "RGB"


def test_decoded_pixels_are_taken_and_left_alone() -> None:
    original = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert _pixel(load_image(ImageRef(pixels=original))) == (255, 255, 255)
    assert original.mode == "RGBA"


def test_an_image_opened_by_the_user_can_be_checked_and_then_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_encoded(_noise()))
    with Image.open(tmp_path / "a.png") as mine:
        ref = ImageRef(pixels=mine)
        assert check_image(ref) == (96, 64)
        assert load_image(ref).size == (96, 64)


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (257, 1), (30000, 117), (65535, 255)], ids=["black", "one", "middle", "white"]
)
@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(value: int, expected: int, format_: str) -> None:
    assert _pixel(load_image(ImageRef(data=_encoded(Image.new("I;16", (4, 4), value), format_)))) == (expected,) * 3


def test_big_endian_sixteen_bits_are_scaled() -> None:
    data = _png(1, 1, bits=16, colour=0, data=b"\0" + struct.pack(">H", 30000))
    assert _pixel(load_image(ImageRef(data=data))) == (117, 117, 117)
    assert _pixel(load_image(ImageRef(pixels=Image.frombytes("I;16B", (1, 1), struct.pack(">H", 30000))))) == (117,) * 3


def _palette(index: int) -> Image.Image:
    image = Image.new("P", (4, 4), index)
    image.putpalette(list(range(12)))
    return image


TRANSPARENT: dict[str, Callable[[], bytes]] = {
    "RGBA": lambda: _encoded(Image.new("RGBA", (4, 4), (200, 0, 0, 0))),
    "LA": lambda: _encoded(Image.new("LA", (4, 4), (9, 0))),
    "palette, one colour": lambda: _encoded(_palette(3), transparency=3),
    "palette, bytes": lambda: _encoded(_palette(0), transparency=b"\0\xff"),
    "RGB, one colour": lambda: _encoded(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3)),
    "GIF": lambda: _encoded(_palette(3), "GIF", transparency=3),
}


@pytest.mark.parametrize("data", TRANSPARENT.values(), ids=TRANSPARENT)
def test_what_is_transparent_is_white(data: Callable[[], bytes]) -> None:
    assert _pixel(load_image(ImageRef(data=data()))) == (255, 255, 255)


def test_half_transparent_is_mixed_with_white() -> None:
    assert _pixel(load_image(ImageRef(pixels=Image.new("RGBA", (1, 1), (0, 0, 0, 128))))) == (127, 127, 127)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("held_in", ["bytes", "pixels"])
def test_every_orientation_is_set_upright(orientation: int, held_in: str) -> None:
    upright = Image.new("RGB", (3, 2), "white")
    upright.putpixel((0, 0), (255, 0, 0))
    # The inverse of what each EXIF value asks a viewer to do.
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encoded(stored, exif=exif)
    ref = ImageRef(data=data) if held_in == "bytes" else ImageRef(pixels=Image.open(io.BytesIO(data)))
    assert load_image(ref).tobytes() == upright.tobytes()


def test_the_photograph_of_an_mpo_file_is_read() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = _encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    red, _, blue = _pixel(load_image(ImageRef(data=data)))
    assert red > 250
    assert blue < 5


def test_unreadable_exif_data_neither_stops_nor_warns() -> None:
    data = _encoded(_noise(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05rubbish")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(ImageRef(data=data)).size == (96, 64)


def _pixel(image: Image.Image) -> tuple[int, ...]:
    found = image.getpixel((0, 0))
    assert isinstance(found, tuple)
    return tuple(int(value) for value in found)


BAD_PATHS = {
    "empty": ("", "path.empty"),
    "white space": ("  ", "path.empty"),
    "zero character": ("a\0.png", "path.zero_character"),
    "parent": ("../secret.png", "path.outside_root"),
    "parents behind a folder": ("a/../../secret.png", "path.outside_root"),
    "absolute": ("/etc/passwd", "path.outside_root"),
    "double slash": ("//etc/passwd", "path.outside_root"),
    "parent behind a folder link": ("link/../../secret.png", "path.outside_root"),
    "outside by a link's parent": ("link/root/../../x.png", "path.outside_root"),
    "ends in the parent": ("a/../..", "path.outside_root"),
    "neighbour whose name begins alike": ("../root2/secret.png", "path.outside_root"),
    "backslash parent": ("..\\secret.png", "path.outside_root"),
    "drive": ("C:\\images\\a.png", "path.drive"),
    "drive, slashes": ("d:/images/a.png", "path.drive"),
    "http": ("http://example.org/a.png", "path.url"),
    "https": ("https://example.org/a.png", "path.url"),
    "file URL": ("file:///etc/passwd", "path.outside_root"),
    "file URL with an escaped parent": ("file:///%2e%2e/etc/passwd", "path.outside_root"),
    "file URL with a zero character": ("file:///a%00.png", "path.zero_character"),
    "file URL of a drive": ("file:///C:/images/a.png", "path.drive"),
    "file URL of a server": ("file://server/images/a.png", "path.url"),
    "file URL without a root": ("file:a.png", "path.url"),
    "data URI without an encoding": ("data:image/png,AAAA", "image.data_uri"),
    "data URI of a text": ("data:text/html;base64,AAAA", "image.data_uri"),
    "data URI of nothing": ("data:image/png;base64,", "image.data_uri"),
    "data URI cut short": ("data:image/png;base64,AAA", "image.data_uri"),
    "data URI in another alphabet": ("data:image/png;base64,AA-_", "image.data_uri"),
    "data URI in no alphabet": ("data:image/png;base64,\u00fc\u00fc\u00fc\u00fc", "image.data_uri"),
    "object store": ("s3://bucket/a.png", "path.url"),
    "hub URL": ("hf://datasets/a/b/c.png", "path.url"),
    "lone surrogate": ("a\ud800.png", "path.unusable"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "a").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    (folder / "a" / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "a" / "in.png").symlink_to(folder / "a" / "b.png")
    (tmp_path / "secret.png").write_bytes(_encoded(_noise()))
    return folder


@pytest.mark.parametrize(("text", "code"), BAD_PATHS.values(), ids=BAD_PATHS)
def test_a_bad_path_is_refused(root: Path, text: str, code: str) -> None:
    with pytest.raises(ImageProblem) as caught:
        to_image_ref(text, root)
    assert caught.value.code == code


@pytest.mark.parametrize("scheme", ["file://", "FILE://localhost", "file:"])
def test_a_file_url_below_the_root_is_its_path(root: Path, scheme: str) -> None:
    assert resolve_image_path(f"{scheme}{root}/a/my%20b.png", root) == root / "a" / "my b.png"


def test_a_data_uri_is_its_picture() -> None:
    uri = "data:image/png;base64," + base64.b64encode(_encoded(Image.new("RGB", (3, 2), "red"))).decode()
    assert _pixel(load_image(to_image_ref(uri, None))) == (255, 0, 0)
    wrong = to_image_ref("data:image/png;base64,AAAA", None)
    with pytest.raises(ImageProblem) as caught:
        check_image(wrong)
    assert caught.value.code == "image.format"


def test_a_path_without_a_root_is_refused() -> None:
    with pytest.raises(ImageProblem, match="image_root") as caught:
        resolve_image_path("a.png", None)
    assert caught.value.code == "path.no_root"


def test_a_loop_of_links_is_refused(root: Path) -> None:
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(ImageProblem):
        check_image(to_image_ref("loop", root))


def test_a_name_too_long_for_the_disk_is_refused(root: Path) -> None:
    with pytest.raises(ImageProblem) as caught:
        to_image_ref("x" * 5000, root)
    assert caught.value.code == "path.unusable"


@pytest.mark.parametrize(
    "text", ["a/b.png", "./a/b.png", "a/../a/b.png", "a/ü 1.png", "a/b:c.png", "a/in.png", "a\\b.png"]
)
def test_paths_inside_the_root_are_accepted(root: Path, text: str) -> None:
    assert resolve_image_path(text, root).parent == root / "a"
    assert resolve_image_path(str(root / text), root).parent == root / "a"


def test_a_colon_in_a_name_is_no_url(root: Path) -> None:
    assert resolve_image_path("frame:1.png", root) == root / "frame:1.png"
    assert resolve_image_path("a:1.png", root) == root / "a:1.png"


def test_a_relative_root_follows_the_working_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (root, root.parent):
        monkeypatch.chdir(folder)
        assert resolve_image_path("b.png", Path("a")) == folder / "a" / "b.png"


@pytest.mark.parametrize("text", ["link/secret.png", "a/out.png", "a/../link/secret.png", "link\\secret.png"])
def test_a_link_in_the_folder_is_its_owners_choice(root: Path, text: str) -> None:
    path = resolve_image_path(text, root)
    assert path.is_relative_to(root)
    assert path.resolve() == root.parent / "secret.png"
    assert check_image(to_image_ref(text, root)) == _noise().size


def test_an_absolute_path_is_refused_with_the_setting_that_reads_it(root: Path) -> None:
    text = str(root.parent / "secret.png")
    with pytest.raises(ImageProblem, match="image_root: /"):
        resolve_image_path(text, root)
    assert resolve_image_path(text, Path("/")) == Path(text)


def test_a_root_that_is_itself_a_link_is_followed(root: Path) -> None:
    (root.parent / "shortcut").symlink_to(root)
    assert resolve_image_path("a/b.png", root.parent / "shortcut") == root / "a" / "b.png"


def test_every_way_to_hold_an_image_is_understood(root: Path) -> None:
    data, pixels = _encoded(_noise()), _noise()
    assert to_image_ref({"bytes": data, "path": "/elsewhere/a.png"}, root) == ImageRef(data=data)
    assert to_image_ref({"bytes": None, "path": "a/b.png"}, root) == ImageRef(path=root / "a" / "b.png")
    assert to_image_ref(data, None) == ImageRef(data=data)
    assert to_image_ref(pixels, None).pixels is pixels
    assert to_image_ref(Path("a/b.png"), root).path == root / "a" / "b.png"


@pytest.mark.parametrize("value", [None, 3, {}, {"bytes": None, "path": None}, ["a.png"], Ellipsis], ids=repr)
def test_what_is_no_image_is_refused(root: Path, value: object) -> None:
    with pytest.raises(ImageProblem) as caught:
        to_image_ref(value, root)
    assert caught.value.code == "image.type"


def _conversation(*images: ImageRef) -> Conversation:
    turn = Turn(role="user", content=(*(IMAGE for _ in images), "What?"))
    return Conversation(id="7", turns=(turn,), images=images, file=Path("train.json"), record="3 (id 7)")


def test_a_conversations_images_come_in_order() -> None:
    refs = [ImageRef(pixels=Image.new("RGB", (side, 1))) for side in (3, 1, 2)]
    assert [image.size for image in load_images(_conversation(*refs))] == [(3, 1), (1, 1), (2, 1)]
    assert check_images(_conversation(*refs)) == [(3, 1), (1, 1), (2, 1)]
    assert load_images(_conversation()) == []


@pytest.mark.parametrize("read", [load_images, check_images])
def test_a_conversations_bad_image_is_named(read: Callable[[Conversation], object], tmp_path: Path) -> None:
    good = ImageRef(pixels=_noise())
    with pytest.raises(RecordError) as caught:
        read(_conversation(good, ImageRef(path=tmp_path / "none.png")))
    assert caught.value.code == "image.missing"
    for part in ("train.json", "record 3 (id 7)", "image 2 of 2", "none.png", "Correct the path"):
        assert part in str(caught.value)


def test_a_record_error_crosses_between_processes() -> None:
    error = RecordError("the problem", remedy="The remedy.", file="f.json", record="3", code="image.empty")
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), vars(twin)) == (str(error), vars(error))
