"""Images of records: from what the record holds to RGB pixels.

Three steps, each of which refuses what the next could get silently wrong: a value of the record names an image
(`to_image_ref`), the file's header is judged (`check_image`, no decoding), the pixels are decoded to RGB as a
person would see them (`load_image`). Nothing is fetched from a network, nothing is substituted.
"""

from __future__ import annotations

import hashlib
import re
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vlm_lit.data.images.base64_images import bare_bytes, uri_bytes
from vlm_lit.data.images.image_paths import ImageProblem, resolve_image_path
from vlm_lit.errors import RecordError
from vlm_lit.files.pointers import LFS_PROBLEM, LFS_REMEDY, is_pointer, is_web_page
from vlm_lit.schema import DataItem, ImageRef

if TYPE_CHECKING:
    from PIL import Image

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""What may be opened. Pillow knows more, and runs Ghostscript for one of them (EPS)."""

MAX_PIXELS: Final = 89_478_485
"""Width x height that Pillow itself warns above (`PIL.Image.MAX_IMAGE_PIXELS`): a quarter gigabyte of RGB."""

MAX_ASPECT: Final = 200
"""Longer side over shorter side. Qwen2-VL raises above it; CLIP crops the middle out without a word."""

_DATA_URI: Final = re.compile(r"data:", re.IGNORECASE)
_EXIF_ORIENTATION: Final = 0x0112
_ALPHA_MODES: Final = ("RGBA", "LA", "PA", "RGBa", "La")
_PLAIN_MODES: Final = ("RGB", "L", "1", "P", "CMYK", "YCbCr", "LAB", "HSV")
_SIXTEEN_BIT: Final = ("I;16", "I;16L", "I;16B", "I;16N")


def to_image_ref(value: object, root: Path | None) -> ImageRef:
    """Turn what a record holds into a reference: a path, bytes, `{"bytes", "path"}`, base64, or a PIL image.

    Args:
        value: one image as the record has it. The mapping is how `datasets` stores an image it did not decode.
        root: the folder that paths start from and may not leave.

    Raises:
        ImageProblem: when the value is none of these, its path is not allowed, or its data URI is malformed.
    """
    from PIL import Image

    if isinstance(value, Mapping):
        value = next((value[key] for key in ("bytes", "path", "url") if value.get(key) is not None), None)
    if isinstance(value, str) and _DATA_URI.match(value):
        return ImageRef(data=uri_bytes(value))
    if isinstance(value, str) and (data := bare_bytes(value)) is not None:
        return ImageRef(data=data)
    if isinstance(value, str | Path):
        return ImageRef(path=resolve_image_path(str(value), root))
    if isinstance(value, bytes):
        return ImageRef(data=value)
    if isinstance(value, Image.Image):
        return ImageRef(pixels=value)
    remedy = "Give a path, the bytes of an image file, or an image column of `datasets`."
    raise ImageProblem(f"an image cannot be a {type(value).__name__}", remedy=remedy, code="image.type")


def check_image(ref: ImageRef, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Judge an image by its header, without decoding it.

    Args:
        ref: the image.
        max_pixels: the largest width x height to accept; at most Pillow's own limit, `MAX_PIXELS`.

    Returns:
        (width, height) in pixels as stored, before any rotation its EXIF data asks for.

    Raises:
        ImageProblem: missing, not a regular file, not an allowed format, too large, too long, animated, of a mode with
            no fixed range.
    """
    with _opened(ref, max_pixels) as image:
        return image.size


def load_image(ref: ImageRef, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image as a person would see it: upright, RGB, transparency over white, 16 bits scaled to 8.

    A file that ends early or fails its checksums is refused. Damage inside a JPEG that leaves it decodable
    cannot be told from content.

    Raises:
        ImageProblem: everything `check_image` refuses, and broken pixel data.
    """
    from PIL import ImageFile

    # Some libraries turn this on for the whole process; half an image, grey below, would then pass for a whole one.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with _opened(ref, max_pixels) as image:
        try:
            return _to_rgb(_upright(image))
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever the format's parser runs into
            raise _broken(error) from None


def image_digest(ref: ImageRef) -> str:
    """SHA-256 of an image's file, or of its pixels where it has no file, in hexadecimal.

    Raises:
        OSError: its file cannot be read.
    """
    if ref.path is not None:
        return hashlib.sha256(ref.path.read_bytes()).hexdigest()
    if ref.digest is not None:
        return ref.digest
    pixels = load_image(ref)
    return hashlib.sha256(f"pixels {pixels.size} ".encode() + pixels.tobytes()).hexdigest()


def load_images(item: DataItem, *, max_pixels: int = MAX_PIXELS) -> list[Image.Image]:
    """Decode a conversation's images, in the order of its image slots.

    Raises:
        RecordError: naming the file, the record, which image it is and its path.
    """
    images = []
    for position, ref in enumerate(item.images):
        with naming(item, position):
            images.append(load_image(ref, max_pixels=max_pixels))
    return images


def check_images(item: DataItem, *, max_pixels: int = MAX_PIXELS) -> list[tuple[int, int]]:
    """Judge a conversation's images by their headers; each one's (width, height) as stored.

    Raises:
        RecordError: naming the file, the record, which image it is and its path.
    """
    sizes = []
    for position, ref in enumerate(item.images):
        with naming(item, position):
            sizes.append(check_image(ref, max_pixels=max_pixels))
    return sizes


@contextmanager
def naming(item: DataItem, position: int) -> Iterator[None]:
    """What makes the record's error of a problem of its image `position`.

    Raises:
        RecordError: naming the file, the record, which image it is and its path.
    """
    try:
        yield
    except ImageProblem as found:
        which = f"image {position + 1} of {len(item.images)}, {item.images[position]}"
        raise RecordError(
            f"{which}: {found.problem}",
            remedy=found.remedy,
            file=item.file,
            record=item.record,
            code=found.code,
        ) from None


@contextmanager
def _opened(ref: ImageRef, max_pixels: int) -> Iterator[Image.Image]:
    """An image whose header has been judged; its file is closed afterwards."""
    from PIL import Image

    with warnings.catch_warnings():
        # What Pillow only warns of is either refused here or harmless (unreadable EXIF data).
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if ref.pixels is not None:
            _check_header(ref.pixels, max_pixels)
            yield ref.pixels
        else:
            with _open(ref, max_pixels) as image:
                _check_header(image, max_pixels)
                yield image


def _open(ref: ImageRef, max_pixels: int) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    source = _regular_file(ref.path) if ref.path is not None else BytesIO(ref.data or b"")
    if isinstance(source, BytesIO) and not source.getbuffer().nbytes:
        raise _empty()
    try:
        return Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        first = _first_bytes(source)
        if is_pointer(first):
            raise ImageProblem(LFS_PROBLEM, remedy=LFS_REMEDY, code="image.lfs_pointer") from None
        if is_web_page(first):
            remedy = "Its download failed: get it again, or take the record out."
            raise ImageProblem("a web page or an SVG, not a picture", remedy=remedy, code="image.web_page") from None
        problem = f"not an image in one of the formats {', '.join(FORMATS)}"
        raise ImageProblem(problem, remedy="Convert it to PNG or JPEG.", code="image.format") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_large(f"more than {MAX_PIXELS:,} pixels", max_pixels) from None
    except PermissionError as error:
        raise ImageProblem(f"not readable ({error.strerror})", remedy="Allow it.", code="image.unreadable") from None
    except Exception as error:  # a header that promises what its bytes do not keep
        raise _broken(error) from None


def _first_bytes(source: Path | BytesIO) -> bytes:
    if isinstance(source, BytesIO):
        return source.getvalue()[:64]
    with source.open("rb") as file:
        return file.read(64)


def _regular_file(path: Path) -> Path:
    try:
        status = path.stat()
    except OSError as error:
        problem = f"no such file ({error.strerror})"
        raise ImageProblem(problem, remedy="Correct the path or image_root.", code="image.missing") from None
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise ImageProblem("not a regular file", remedy="Name an image file.", code="image.not_a_file")
    if status.st_size == 0:
        raise _empty()
    return path


def _check_header(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if min(width, height) < 1:
        raise _empty()
    if width * height > max_pixels:
        raise _too_large(f"{width} x {height} pixels", max_pixels)
    if max(width, height) > MAX_ASPECT * min(width, height):
        problem = f"{width} x {height} is longer than {MAX_ASPECT} times its width"
        raise ImageProblem(problem, remedy="Crop or pad it.", code="image.aspect")
    if image.mode not in _PLAIN_MODES + _ALPHA_MODES + _SIXTEEN_BIT:
        remedy = "Nothing says which value is white: save it with 8 or 16 bits a channel."
        raise ImageProblem(f"pixels of mode {image.mode!r}", remedy=remedy, code="image.mode")
    # MPO is a JPEG with a second picture for depth or brightness: phones write it, the first is the photograph.
    if image.format != "MPO" and _is_animated(image):
        remedy = "Save the frame or page that is meant as an image of its own."
        raise ImageProblem("more than one frame", remedy=remedy, code="image.animated")


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception as error:  # finding the second frame reads the file
        raise _broken(error) from None


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    image.load()
    return ImageOps.exif_transpose(image) if image.getexif().get(_EXIF_ORIENTATION, 1) != 1 else image


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode in _SIXTEEN_BIT:
        # Pillow's own conversion clips, so 30000 of 65535 would be white.
        to_eight_bits = [(value + 128) // 257 for value in range(65536)]
        return image.convert("I").point(to_eight_bits, "L").convert("RGB")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _broken(error: Exception) -> ImageProblem:
    cut = "truncated" in str(error).lower() or isinstance(error, EOFError)
    problem = f"the file is {'cut short' if cut else 'damaged'} ({error})"
    code = "image.truncated" if cut else "image.damaged"
    return ImageProblem(problem, remedy="Copy it again from its source, or take the record out.", code=code)


def _empty() -> ImageProblem:
    return ImageProblem("the image is empty", remedy="Copy it again from its source.", code="image.empty")


def _too_large(size: str, max_pixels: int) -> ImageProblem:
    remedy = f"Make it smaller: at most {min(max_pixels, MAX_PIXELS):,} pixels are read."
    return ImageProblem(size, remedy=remedy, code="image.pixels")
