"""Parity of two servers of one model: how often they answer alike, and at which token they part."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlm_lit.errors import VlmLitError
from vlm_lit.files.strict_json import parse_json
from vlm_lit.studies.estimates.statistics import Interval, cut, mean_interval
from vlm_lit.studies.page_parts.wording import FEWEST_IMAGES, bounds, percent

_FILE: Final = "predictions.jsonl"
_SHOWN: Final = 160
"""Letters of an answer that an example shows."""


@dataclass(frozen=True, kw_only=True)
class ServedAnswer:
    """An answer as a server gave it: its text, and its tokens where they are known.

    Args:
        id: its question's.
        image_id: which picture it is about.
        path: of that picture's file, which another machine may have elsewhere.
    """

    id: str
    prediction: str
    token_ids: tuple[int, ...] | None
    image_id: str | None
    path: str | None


@dataclass(frozen=True, kw_only=True)
class Parting:
    """A question that was answered differently.

    Args:
        id: the question's.
        letter: the first letter that differs, counted from 0.
        token: the first token that differs; None where tokens are not known, or all are the same.
        first, second: the answers.
    """

    id: str
    letter: int | None
    token: int | None
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Two servers on the same questions.

    Args:
        questions: how many both answered.
        images: how many these are about.
        texts: share of equal texts; `text_interval` of that, None where all are of one image.
        tokens: share of equal lists of tokens; None where one of the files has none.
        partings: what was answered differently, in the first file's order.
    """

    questions: int
    images: int
    texts: float
    text_interval: Interval | None
    tokens: float | None
    token_interval: Interval | None
    partings: tuple[Parting, ...]

    @property
    def agreement(self) -> float:
        """The share that decides: of tokens where they are known, else of texts."""
        return self.texts if self.tokens is None else self.tokens


def read_served(path: Path) -> list[ServedAnswer]:
    """The answers in a file, or in a run directory's `predictions.jsonl`.

    Raises:
        VlmLitError: the file cannot be read, is empty, or a line is broken or repeats an id; names file and line.
    """
    path = path / _FILE if path.is_dir() else path
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise VlmLitError(
            f"{path}: cannot be read ({error.strerror}). Give a run's directory, or a file with one answer a line."
        ) from error
    found = [_served(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    ids = [one.id for one in found]
    if not found:
        raise VlmLitError(f"{path}: holds no answers. Write one a line.")
    if len(set(ids)) < len(ids):
        (twice, _), *_ = Counter(ids).most_common(1)
        raise VlmLitError(f"{path}: the id {twice!r} stands there twice. Give every answer an id of its own.")
    return found


def _served(line: bytes, where: str) -> ServedAnswer:
    fields = parse_json(line, where, any_value=True)
    if not isinstance(fields, dict):
        raise VlmLitError(f"{where}: holds no object. Write one answer a line: id and prediction, as an object.")
    names = ("id", "prediction", "token_ids", "image_id", "image")
    id_, text, tokens, image, path = (fields.get(name) for name in names)
    if not isinstance(id_, (str, int)) or isinstance(id_, bool) or not isinstance(text, str):
        raise VlmLitError(f"{where}: an answer has an id and a prediction, which is text; found {', '.join(fields)}.")
    if tokens is not None and not (isinstance(tokens, list) and all(type(token) is int for token in tokens)):
        raise VlmLitError(f"{where}: token_ids is a list of whole numbers.")
    if image is not None and (not isinstance(image, (str, int)) or isinstance(image, bool)):
        raise VlmLitError(f"{where}: image_id is a text or a whole number.")
    if path is not None and not isinstance(path, str):
        raise VlmLitError(f"{where}: image is the path of a picture, a text.")
    return ServedAnswer(
        id=str(id_),
        prediction=text,
        token_ids=None if tokens is None else tuple(tokens),
        image_id=None if image is None else str(image),
        path=path,
    )


def parity(first: Sequence[ServedAnswer], second: Sequence[ServedAnswer]) -> Parity:
    """Lay the answers of two servers beside each other, by id.

    Raises:
        VlmLitError: they were not asked the same.
    """
    other = {one.id: one for one in second}
    strangers = {one.id for one in first} ^ other.keys()
    if strangers:
        raise VlmLitError(
            f"The two were not asked the same: {len(strangers):,} ids stand in one file only (such as "
            f"{min(strangers)!r}). Ask both the same questions."
        )
    pairs = [(one, other[one.id]) for one in first]
    shown = next((a for a, b in pairs if None not in (a.image_id, b.image_id) and a.image_id != b.image_id), None)
    if shown is not None:
        raise VlmLitError(
            f"The two were not asked the same: {shown.id!r} is about {shown.image_id!r} in one file and about "
            f"{other[shown.id].image_id!r} in the other. Ask both about the same pictures, or correct image_id."
        )
    known = all(one.token_ids is not None for pair in pairs for one in pair)
    texts = [float(a.prediction == b.prediction) for a, b in pairs]
    tokens = [float(a.token_ids == b.token_ids) for a, b in pairs] if known else None
    clusters = [_cluster(a, b) for a, b in pairs]
    several = len(set(clusters)) > 1
    return Parity(
        questions=len(pairs),
        images=len(set(clusters)),
        texts=statistics.fmean(texts),
        text_interval=mean_interval(texts, clusters) if several else None,
        tokens=None if tokens is None else statistics.fmean(tokens),
        token_interval=mean_interval(tokens, clusters) if several and tokens is not None else None,
        partings=tuple(
            Parting(
                id=a.id,
                letter=_first(a.prediction, b.prediction),
                token=_first(a.token_ids, b.token_ids) if a.token_ids is not None and b.token_ids is not None else None,
                first=a.prediction,
                second=b.prediction,
            )
            for a, b in pairs
            if a.prediction != b.prediction or (known and a.token_ids != b.token_ids)
        ),
    )


def _cluster(a: ServedAnswer, b: ServedAnswer) -> Hashable:
    """What a question's interval is clustered by: its picture as either server names it, else the question itself."""
    named = ("image_id", "path")
    return next(((name, v) for name in named for one in (a, b) if (v := getattr(one, name)) is not None), ("id", a.id))


def _first(a: Sequence[object], b: Sequence[object]) -> int | None:
    """The first place where two sequences differ; None where they do not."""
    if a == b:
        return None
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def as_text(found: Parity, names: Sequence[str], examples: int) -> str:
    """What a reader should know, in lines."""
    lines = [f"{names[0]} and {names[1]}: {found.questions:,} questions about {found.images:,} images"]
    for what, value, interval in (
        ("texts", found.texts, found.text_interval),
        ("tokens", found.tokens, found.token_interval),
    ):
        if value is not None:
            ends = None if interval is None else cut((interval.low, interval.high), 0.0, 1.0)
            lines.append(f"the same {what}: {percent(value)} % {bounds(ends, percent)}".rstrip())
    if found.text_interval is not None and found.agreement in (0.0, 1.0):
        lines.append("An interval of no width says that the images agree, not that the value is certain.")
    if found.tokens is None:
        lines.append("Tokens are not compared: not every answer of both has token_ids.")
    if found.images < FEWEST_IMAGES:
        lines.append(f"Only {found.images} images: this says little of others.")
    places = [one.token for one in found.partings if one.token is not None]
    if places:
        middle = statistics.median(places)
        lines.append(f"they part at token {min(places)} at the earliest, in the middle at {middle:g} (counted from 0)")
    for one in found.partings[:examples]:
        place = f"token {one.token}" if one.token is not None else f"letter {one.letter}"
        lines += [f"{one.id}, from {place} on:", f"  {names[0]}: {one.first[:_SHOWN]!r}"]
        lines.append(f"  {names[1]}: {one.second[:_SHOWN]!r}")
    more = len(found.partings) - examples
    return "\n".join(lines + ([f"and {more:,} more that differ"] if more > 0 else []))
