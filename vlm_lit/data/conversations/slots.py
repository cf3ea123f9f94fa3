"""Image slots of a record's turns: which image stands at which place.

A turn is first read as it is written: words, image parts, and strings in which placeholders may stand. Whether these
are places follows from the whole record: `<image>` is one wherever the record has images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from vlm_lit.data.conversations.placeholders import (
    IMAGE_PLACEHOLDER,
    Marker,
    Piece,
    any_placeholders,
    like_placeholders,
    numbers_of,
    places,
    refuse_other_input,
    split_at_placeholders,
)
from vlm_lit.data.conversations.refusals import refusal
from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.data.images.images import to_image_ref
from vlm_lit.schema import IMAGE, ImageRef, ImageSlot, Note, Part, Record, Role, Turn

Placeholders: TypeAlias = Literal["slots", "text"]

_REMEDY: Final = f"Write {IMAGE_PLACEHOLDER} where each image goes"


@dataclass(frozen=True)
class Typed:
    """A user's string, in which placeholders may stand."""

    text: str


@dataclass(frozen=True)
class Own:
    """An image part: its own image as the record has it, or None where the record's images hold it.

    `index` says which of the record's images it is, where the part says so.
    """

    source: object = None
    index: int | None = None


@dataclass(frozen=True, kw_only=True)
class WrittenTurn:
    """A turn as it is written."""

    role: Role
    parts: Sequence[str | Typed | Own]
    supervised: bool = True


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Turns as the record has them, and its images in the order of the slots."""

    turns: Sequence[Turn]
    images: Sequence[ImageRef]
    notes: Sequence[Note] = field(default=())


def image_ref(record: Record, value: object, key: str = "") -> ImageRef:
    """One image of a record.

    Args:
        record: whose it is.
        value: what the record has.
        key: under which key; a refusal names it.

    Raises:
        RecordError: it cannot be used.
    """
    try:
        return to_image_ref(value, record.image_root)
    except ImageProblem as found:
        problem = found.problem if key in found.problem else f"{key}: {found.problem}"
        raise refusal(record, problem, remedy=found.remedy, code=found.code) from None


def with_places(
    record: Record,
    written: Sequence[WrittenTurn],
    images: Sequence[ImageRef] | Mapping[int, ImageRef],
    *,
    always: bool,
    placeholders: Placeholders,
) -> Draft:
    """The turns with a slot at each image's place.

    Args:
        record: whose turns they are.
        written: the turns.
        images: what the record's own image keys hold; by number where they are columns `image_1`, `image_2`, ...: a
            numbered placeholder then names a column, and columns that none of them names are not shown.
        always: whether `<image>` is a place even where the record has no image (which is then refused later).
        placeholders: `text` reads every placeholder as words.

    Raises:
        RecordError: a placeholder that cannot be read.
    """
    typed = [part.text for turn in written for part in turn.parts if isinstance(part, Typed)]
    cut: dict[str, tuple[Piece, ...]] = {text: (text,) if text else () for text in typed}
    if placeholders == "slots":
        refuse_other_input(record, typed, "a user's turn")
        as_written = isinstance(images, Mapping)
        cut = {text: split_at_placeholders(text, numbered_as_written=as_written) for text in typed}
        if not images and not always and not _foreign(cut.values()):
            cut = {text: (text,) if text else () for text in typed}
    given = iter(_given(record, written, images, cut))
    content: list[tuple[Part, ...]] = []
    shown: list[ImageRef] = []
    for turn in written:
        parts: list[Part] = []
        for part in turn.parts:
            for piece in cut[part.text] if isinstance(part, Typed) else (part,):
                if isinstance(piece, str):
                    parts.append(piece)
                    continue
                parts.append(IMAGE)
                source = piece.path if isinstance(piece, Marker) else piece.source
                # With nothing left the slot stays without an image, and the count says so.
                own = next(given, None) if source is None else image_ref(record, source)
                shown += [] if own is None else [own]
        content.append(tuple(parts))
    turns = [
        Turn(role=turn.role, content=parts, supervised=turn.supervised)
        for turn, parts in zip(written, content, strict=True)
    ]
    draft = Draft(turns=turns, images=[*shown, *given])
    words = [piece for text in typed for piece in cut[text] if isinstance(piece, str)]
    return Draft(turns=turns, images=draft.images, notes=_notes(record, draft, words, written, placeholders))


def brings_images(written: Sequence[WrittenTurn]) -> bool:
    """Whether turns bring images of their own, as parts or as `<img>path</img>`."""
    parts = [part for turn in written for part in turn.parts]
    pieces = [piece for part in parts if isinstance(part, Typed) for piece in split_at_placeholders(part.text)]
    if any(isinstance(piece, Marker) and piece.path is not None for piece in pieces):
        return True
    return any(isinstance(part, Own) and part.source is not None for part in parts)


def _foreign(cut: Iterable[Sequence[Piece]]) -> bool:
    """Whether a placeholder other than `<image>` stands there."""
    return any(isinstance(piece, Marker) and piece.spelling != IMAGE_PLACEHOLDER for pieces in cut for piece in pieces)


def _given(
    record: Record,
    written: Sequence[WrittenTurn],
    images: Sequence[ImageRef] | Mapping[int, ImageRef],
    cut: Mapping[str, Sequence[Piece]],
) -> Sequence[ImageRef]:
    """The record's images in the order in which its turns show them."""
    parts = [part for turn in written for part in turn.parts]
    pieces = [piece for part in parts for piece in (cut[part.text] if isinstance(part, Typed) else (part,))]
    if not any(isinstance(piece, Own) and piece.index is not None for piece in pieces):
        return _in_order(record, images, [piece for piece in pieces if isinstance(piece, Marker)])
    markers = [_marker(piece) if isinstance(piece, Own) else piece for piece in pieces if not isinstance(piece, str)]
    return _in_order(record, [*images.values()] if isinstance(images, Mapping) else images, [m for m in markers if m])


def _marker(part: Own) -> Marker | None:
    """An image part as a placeholder of its number; None for one that brings its own image."""
    if part.source is not None:
        return None
    said = "an image part" if part.index is None else f"an image part of index {part.index}"
    return Marker(spelling=said, number=part.index)


def _in_order(
    record: Record, images: Sequence[ImageRef] | Mapping[int, ImageRef], markers: Sequence[Marker]
) -> Sequence[ImageRef]:
    """The record's images in the order in which the markers show them."""
    paths = [marker for marker in markers if marker.path is not None]
    if paths and (images or len(paths) < len(markers)):
        problem = f"{paths[0].spelling} names an image, and the record names others another way"
        raise refusal(record, problem, remedy=f"{_REMEDY}, and its path under images.", code="image_placeholder")
    if isinstance(images, Mapping):
        return _of_columns(record, images, markers)
    order = places(record, markers)
    if order is None or len(order) != len(images):
        _check_count(record, images, markers)
        return images
    return [images[place] for place in order]


def _of_columns(record: Record, images: Mapping[int, ImageRef], markers: Sequence[Marker]) -> Sequence[ImageRef]:
    """The images of the columns that the markers name; all of them where no marker has a number."""
    if not numbers_of(record, markers):
        _check_count(record, [*images.values()], markers)
        return [*images.values()]
    for marker in markers:
        if marker.number not in images:
            problem = f"its text names {marker.spelling}, and there is no image_{marker.number}"
            remedy = "Give the record that image, or take the words out."
            raise refusal(record, problem, remedy=remedy, code="numbered_image")
    return [images[marker.number] for marker in markers if marker.number is not None]


def _check_count(record: Record, images: Sequence[ImageRef], markers: Sequence[Marker]) -> None:
    """Name placeholders that are no `<image>` where they do not fit; the others are counted with all slots."""
    foreign = list(dict.fromkeys(m.spelling for m in markers if m.spelling != IMAGE_PLACEHOLDER and m.path is None))
    if foreign and len(markers) != len(images):
        problem = f"{len(markers)} places for images, written {', '.join(foreign)[:200]}, and {len(images)} images"
        remedy = f"{_REMEDY} and make the two numbers equal; or set placeholders: text if it is meant as words."
        raise refusal(record, problem, remedy=remedy, code="image_count")


def _notes(
    record: Record,
    draft: Draft,
    words: Sequence[str],
    written: Sequence[WrittenTurn],
    placeholders: Placeholders,
) -> tuple[Note, ...]:
    """What of the words looks like a placeholder and stays text."""
    slots = sum(isinstance(part, ImageSlot) for turn in draft.turns for part in turn.content)
    like = like_placeholders(words) if placeholders == "slots" else []
    if like and draft.images and slots != len(draft.images):
        problem = f"{like[0]!r} in a user's turn is no placeholder that is known, and an image has no place"
        remedy = f"{_REMEDY}; or set placeholders: text if it is meant as words."
        raise refusal(record, problem, remedy=remedy, code="image_placeholder")
    said = [part for turn in written if turn.role != "assistant" for part in turn.parts if isinstance(part, str)]
    kept = dict.fromkeys([*any_placeholders([*said, *words])])
    return tuple(Note(kind="text", about=f"{spelling} in a prompt stays text") for spelling in kept)
