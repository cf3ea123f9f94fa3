"""Pictures that cannot be used, each as the bytes of its file with its reason code."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

from PIL import Image

Made = Callable[[], bytes]


def file_of(mode: str = "RGB", size: tuple[int, int] = (40, 32), kind: str = "PNG", **options: Any) -> bytes:
    """An image file of a drawn pattern."""
    image = Image.effect_noise(size, 60).convert(mode)
    held = BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def frames(kind: str) -> bytes:
    """A file of two frames or pages."""
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    held = BytesIO()
    pictures[0].save(held, kind, save_all=True, append_images=pictures[1:])
    return held.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header says what it likes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def damaged(data: bytes, share: float, put: bytes = b"\xff\x00\xaa\x55" * 4) -> bytes:
    """A file with other bytes at some place in it."""
    at = int(len(data) * share)
    return data[:at] + put + data[at + len(put) :]


def cut(data: bytes, share: float) -> bytes:
    """The beginning of a file."""
    return data[: int(len(data) * share)]


def bmp(width: int, height: int, bits: int = 24) -> bytes:
    """A BMP whose header says what it likes, without pixels."""
    return (
        b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, *[0] * 6)
    )


PICTURES: Final[dict[str, tuple[Made, str]]] = {
    "empty": (lambda: b"", "image.empty"),
    "one byte": (lambda: b"\xff", "image.format"),
    "words": (lambda: b"not a picture", "image.format"),
    "zeros": (lambda: bytes(5000), "image.format"),
    "a page": (lambda: b"<!DOCTYPE html><html>404</html>", "image.web_page"),
    "an SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image.web_page"),
    "a PDF": (lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "image.format"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage", "image.format"),
    "a zip": (lambda: b"PK\x03\x04" + bytes(60), "image.format"),
    "a gzip": (lambda: b"\x1f\x8b\x08\x00" + bytes(60), "image.format"),
    "a pickle": (lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.", "image.format"),
    "an LFS pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
        "image.lfs_pointer",
    ),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), "image.format"),
    "JPEG 2000": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), "image.format"),
    "FITS": (lambda: b"SIMPLE  =                    T" + b" " * 3000, "image.format"),
    "ICO": (lambda: file_of(kind="ICO"), "image.format"),
    "PPM": (lambda: file_of(kind="PPM"), "image.format"),
    "TGA": (lambda: file_of(kind="TGA"), "image.format"),
    "PNG cut in its header": (lambda: cut(file_of(), 0.01), "image.format"),
    "PNG cut early": (lambda: cut(file_of(), 0.3), "image.truncated"),
    "PNG cut late": (lambda: cut(file_of(), 0.9), "image.truncated"),
    "PNG damaged early": (lambda: damaged(file_of(), 0.3), "image.damaged"),
    "PNG damaged late": (lambda: damaged(file_of(), 0.8), "image.damaged"),
    "PNG of too few pixels": (lambda: png(40, 32, bytes(50)), "image.truncated"),
    "PNG without width": (lambda: png(0, 32), "image.format"),
    "PNG of 177 million pixels": (lambda: png(13_300, 13_300), "image.pixels"),
    "PNG of a billion pixels": (lambda: png(40_000, 40_000), "image.pixels"),
    "PNG of most pixels": (lambda: png(2**31 - 1, 2**31 - 1), "image.pixels"),
    "PNG with a bomb of words": (
        lambda: (
            file_of().replace(b"IDAT", b"IDAT", 1)[:33]
            + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000)))
            + file_of()[33:]
        ),
        "image.damaged",
    ),
    "PNG long": (lambda: file_of(size=(4000, 1)), "image.aspect"),
    "PNG high": (lambda: file_of(size=(1, 4000)), "image.aspect"),
    "JPEG cut in its header": (lambda: cut(file_of(kind="JPEG"), 0.01), "image.truncated"),
    "JPEG cut early": (lambda: cut(file_of(kind="JPEG"), 0.6), "image.truncated"),
    "JPEG cut late": (lambda: cut(file_of(kind="JPEG"), 0.95), "image.truncated"),
    "JPEG of most pixels": (
        lambda: (d := file_of(kind="JPEG"))[: (p := d.index(b"\xff\xc0")) + 5] + b"\xff\xff\xff\xff" + d[p + 9 :],
        "image.pixels",
    ),
    "WebP cut": (lambda: cut(file_of(kind="WEBP", lossless=True), 0.6), "image.damaged"),
    "WebP damaged": (lambda: damaged(file_of(kind="WEBP", lossless=True), 0.02), "image.damaged"),
    "WebP of two frames": (lambda: frames("WEBP"), "image.animated"),
    "GIF cut": (lambda: cut(file_of(kind="GIF"), 0.6), "image.truncated"),
    "GIF of two frames": (lambda: frames("GIF"), "image.animated"),
    "BMP cut": (lambda: cut(file_of(kind="BMP"), 0.6), "image.truncated"),
    "BMP of a billion pixels": (lambda: bmp(40_000, 40_000), "image.pixels"),
    "BMP of no bits": (lambda: bmp(9, 9, 7), "image.damaged"),
    "TIFF cut": (lambda: cut(file_of(kind="TIFF"), 0.6), "image.truncated"),
    "TIFF of two pages": (lambda: frames("TIFF"), "image.animated"),
    "TIFF of floats": (lambda: file_of("F", kind="TIFF"), "image.mode"),
    "TIFF of whole numbers": (lambda: file_of("I", kind="TIFF"), "image.mode"),
    "TIFF damaged inside": (lambda: damaged(file_of(kind="TIFF", compression="tiff_lzw"), 0.3), "image.damaged"),
    "PNG of animation": (lambda: frames("PNG"), "image.animated"),
}
