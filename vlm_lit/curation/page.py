"""The HTML page of a curation: its counts, and pictures of what was rejected; one file, every value escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlm_lit.curation.outcomes import Contradiction, RejectedRow
from vlm_lit.curation.placing import SPLITS
from vlm_lit.curation.run import CurationResult
from vlm_lit.curation.summary import by_source, summary
from vlm_lit.data.images.image_paths import ImageProblem
from vlm_lit.data.images.images import load_image
from vlm_lit.files.page_templates import page_environment
from vlm_lit.schema import ImageRef

_TEMPLATE: Final = "curation_page.html.j2"
_SIDE: Final = 200  # pixels of a thumbnail
_EACH: Final = 8  # rows shown of each reason
_SETS: Final = 24  # duplicates and contradictions shown
_LETTERS: Final = 300


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A picture's `data:` address, or, where `uri` is empty, why it cannot be shown."""

    name: str
    uri: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class ShownReject:
    """A rejected row as the page shows it."""

    place: str
    problem: str
    remedy: str
    words: str
    pictures: Sequence[Thumbnail]


@dataclass(frozen=True, kw_only=True)
class ShownReason:
    """A reason, how many rows it has, and some of them."""

    code: str
    count: int
    rows: Sequence[ShownReject]


def as_page(result: CurationResult) -> str:
    """The page."""
    environment = page_environment(Path(__file__).parent)
    thumbnails = _Thumbnails(result)
    found = result.findings
    return environment.get_template(_TEMPLATE).render(
        counts=summary(result),
        splits=SPLITS,
        sources=by_source(result),
        reasons=_reasons(result, thumbnails),
        contradictions=[(one, thumbnails.of(_pictures(result, one))) for one in found.contradictions[:_SETS]],
        duplicates=[
            (issue, len(sets), [thumbnails.of(places[:_EACH]) for places in sets[:_SETS]])
            for issue, sets in (
                ("exact_duplicates", found.pictures.exact_duplicates),
                ("near_duplicates", found.pictures.near_duplicates),
            )
        ],
        odd=[
            (issue, len(places), thumbnails.of(places[:_EACH]))
            for issue, places in (
                ("odd_size", found.pictures.odd_size),
                ("odd_aspect_ratio", found.pictures.odd_aspect_ratio),
            )
        ],
        priors=found.priors,
        warnings=found.warnings,
        each=_EACH,
        sets=_SETS,
    )


def _pictures(result: CurationResult, one: Contradiction) -> Sequence[int]:
    outcome = result.ledger.outcomes[one.rows[0]]
    return outcome.pictures if isinstance(outcome, RejectedRow) else outcome.candidate.pictures


def _reasons(result: CurationResult, thumbnails: _Thumbnails) -> list[ShownReason]:
    by_code: dict[str, list[RejectedRow]] = {}
    for row in result.ledger.rejected:
        by_code.setdefault(row.code, []).append(row)
    ordered = sorted(by_code.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        ShownReason(code=code, count=len(rows), rows=[_shown(row, thumbnails) for row in rows[:_EACH]])
        for code, rows in ordered
    ]


def _shown(rejected: RejectedRow, thumbnails: _Thumbnails) -> ShownReject:
    row = rejected.row
    place = f"{row.source}, " + (f"line {row.line}" if row.line is not None else f"record {row.index}")
    words = "\n".join(f"{key}: {_short(value)}" for key, value in (row.fields or {}).items())
    pictures = thumbnails.of(rejected.pictures[:_EACH])
    return ShownReject(
        place=place, problem=rejected.problem, remedy=rejected.remedy, words=_encodable(words), pictures=pictures
    )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]} ..."


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _Thumbnails:
    """Small copies of pictures, each made once."""

    def __init__(self, result: CurationResult) -> None:
        self.result = result
        self._made: dict[int, Thumbnail] = {}

    def of(self, pictures: Sequence[int]) -> list[Thumbnail]:
        """Those at these places."""
        return [self._one(k) for k in pictures]

    def _one(self, k: int) -> Thumbnail:
        if k not in self._made:
            picture = self.result.pictures[k]
            try:
                self._made[k] = Thumbnail(name=picture.name, uri=_uri(picture.file))
            except ImageProblem as found:
                self._made[k] = Thumbnail(name=picture.name, problem=found.problem)
        return self._made[k]


def _uri(file: Path) -> str:
    image = load_image(ImageRef(path=file))
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
