"""Image placeholders in a user's words: `<image>`, and what other programs write for it.

Each program has its own placeholder: LLaVA's files and most others write `<image>`, some the control tokens of one
model (`<|vision_start|><|image_pad|><|vision_end|>`), some numbers (`<|image_1|>`), Qwen-VL the path itself. All
are slots. Those of videos, sounds and boxes are refused. What looks like a placeholder and is none of these may be one
of a program not known here, or words: it is refused unless every image has its place already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from vlm_lit.data.conversations.refusals import refusal
from vlm_lit.schema import Record

IMAGE_PLACEHOLDER: Final = "<image>"
"""What LLaVA's files write where an image goes (`DEFAULT_IMAGE_TOKEN` in llava/constants.py)."""

_ONE_IMAGE: Final = (
    r"\(?<image>\./</image>\)?",  # MiniCPM-V
    r"<im_start><image><im_end>",  # LLaVA with mm_use_im_start_end
    r"<\|vision_start\|>(?:<\|image_pad\|>)+<\|vision_end\|>",  # Qwen2-VL and later
    r"<\|begin_of_image\|><\|image\|><\|end_of_image\|>",  # GLM
    r"<\|media_(?:begin|start)\|>image<\|media_content\|><\|media_pad\|><\|media_end\|>",  # Kimi-VL
    r"<img>(?:(?:<IMG_CONTEXT>)+|<image>)</img>",  # InternVL
    r"<start_of_image>(?:<image_soft_token>)*(?:<end_of_image>)?",  # Gemma 3
    r"<\|image_start\|>(?:<\|patch\|>|<\|image\|>)*<\|image_end\|>",  # Llama 4
    r"<fake_token_around_image><image><fake_token_around_image>",  # Idefics2
    r"<\|image_pad\|>",
    r"<\|image\|>",  # Llama 3.2
    r"<\|img\|>",
    r"<\|image_placeholder\|>",
    r"<\|media_pad\|>",
    r"<image_soft_token>",
    r"<IMG_CONTEXT>",
    r"\[IMG\]",  # Pixtral
    r"<ImageHere>",  # InternLM-XComposer
    r"<image_placeholder>",  # DeepSeek-VL
    r"<image-placeholder>",  # VILA
    r"<image_token>",
    r"<image ?/>",
    r"<Image>",
    r"<IMAGE>",
    r"<image>",
)
_NUMBERED: Final = r"<\|image_(?P<a>\d{1,3})\|>|<[Ii]mage[ _-]?(?P<b>\d{1,3})>|<img_(?P<c>\d{1,3})>"  # Phi-3, MiniCPM-V
_PATH: Final = r"<img>(?P<path>[^<>\n]+)</img>"  # Qwen-VL
_MARKER: Final = re.compile(rf"{'|'.join(_ONE_IMAGE)}|{_NUMBERED}|{_PATH}")

_OTHER_INPUT: Final = re.compile(
    r"<\|?/?(?:start_of_|end_of_|begin_of_)?(?:video|audio|speech|sound)s?(?:_(?:pad|start|end|bos|eos|begin|soft_token|"
    r"token|placeholder|context))?(?:[ _-]?\d{1,3})?\|?>|<(?:Video|Audio|Speech|Sound)Here>|<ref-object>|<bbox>",
    re.IGNORECASE,
)
_LOOKS_LIKE_ONE: Final = re.compile(
    r"<[|/]{0,2}(?:[\w-]*[ _-])?(?:image|img|picture|photo|vision|visual|media)(?:[ _-]?[\w-]*)?[|/]{0,2}>"
    r"|\[/?(?:image|img|picture|photo|video|audio)(?:[ _-]?\w*)?\]|\{\{? ?(?:image|img|picture|photo)s? ?\}?\}",
    re.IGNORECASE,
)
_IN_ORDER: Final = f"Write {IMAGE_PLACEHOLDER} where each image goes, in the order of the images."
_BREAK_BEHIND: Final = re.compile(r"\r?\n")
_BREAK_BEFORE: Final = re.compile(r"\r?\n\Z")


@dataclass(frozen=True, kw_only=True)
class Marker:
    """A placeholder as it was written; `number` or `path` where it says which image is meant."""

    spelling: str
    number: int | None = None
    path: str | None = None


Piece: TypeAlias = str | Marker


def split_at_placeholders(text: str, *, numbered_as_written: bool = False) -> tuple[Piece, ...]:
    """`text` cut at its placeholders; empty pieces are left out.

    Templates put their own line break beside an image, so the one the file writes there goes, as in LLaVA; with
    `numbered_as_written` the one beside a number stays, for MMMU's options are lines that may end with an image.
    """
    pieces: list[Piece] = []
    done = 0
    for match in _MARKER.finditer(text):
        marker, before = _marker(match), text[done : match.start()]
        kept = numbered_as_written and marker.number is not None
        behind = None if kept else _BREAK_BEHIND.match(text, match.end())
        end = behind.end() if behind is not None else match.end()
        pieces += [_BREAK_BEFORE.sub("", before) if end == len(text) and not kept else before, marker]
        done = end
    return tuple(piece for piece in (*pieces, text[done:]) if piece != "")


def _marker(match: re.Match[str]) -> Marker:
    number = next((found for name in "abc" if (found := match[name]) is not None), None)
    return Marker(spelling=match[0], number=None if number is None else int(number), path=match["path"])


def refuse_other_input(record: Record, texts: Iterable[str], what: str) -> None:
    """Refuse words that stand for a video, a sound or a box.

    Raises:
        RecordError: there are such words.
    """
    for text in texts:
        if found := _OTHER_INPUT.search(text):
            remedy = (
                f"Only images are read: take the record or the {found[0]} out; or set placeholders: text on its "
                "source if it is meant as words."
            )
            raise refusal(record, f"{found[0]} in {what}", remedy=remedy, code="other_input")


def like_placeholders(texts: Iterable[str]) -> list[str]:
    """What in these words looks like a placeholder that is not known here."""
    return [match[0] for text in texts for match in _LOOKS_LIKE_ONE.finditer(text)]


def any_placeholders(texts: Iterable[str]) -> list[str]:
    """Every placeholder in these words, known or not, of images or of something else."""
    return [m[0] for text in texts for kind in (_MARKER, _OTHER_INPUT, _LOOKS_LIKE_ONE) for m in kind.finditer(text)]


def places(record: Record, markers: Sequence[Marker]) -> list[int] | None:
    """Which image, counted from 0, each of the numbered markers shows; None where no marker has a number.

    Numbers start with 0 or 1.

    Raises:
        RecordError: some markers have numbers and others none, one number stands twice, or one is left out.
    """
    numbers = numbers_of(record, markers)
    if not numbers:
        return None
    first = 0 if 0 in numbers else 1
    found = [number - first for number in numbers]
    if sorted(found) != list(range(len(found))):
        problem = f"{_spelled(markers)} do not name every image once"
        raise refusal(record, problem, remedy=_IN_ORDER, code="image_placeholder")
    return found


def numbers_of(record: Record, markers: Sequence[Marker]) -> list[int]:
    """The numbers of the markers; none where no marker has one.

    Raises:
        RecordError: some markers have numbers and others none.
    """
    numbers = [marker.number for marker in markers if marker.number is not None]
    if numbers and len(numbers) < len(markers):
        problem = f"two ways to write an image's place: {_spelled(markers)}"
        raise refusal(record, problem, remedy=_IN_ORDER, code="image_placeholder")
    return numbers


def _spelled(markers: Sequence[Marker]) -> str:
    return ", ".join(dict.fromkeys(marker.spelling for marker in markers))
