"""Alignment of systems' items, side by side by id, refused where they were not asked the same."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vlm_lit.errors import VlmLitError
from vlm_lit.schema import Prediction
from vlm_lit.studies.run_files.systems import System

IN_RECORD: Final = "<image held in the record>"
_REMEDY: Final = "Evaluate both on the same split, or compare what they have in common with --intersect."


@dataclass(frozen=True, kw_only=True)
class AlignedItem:
    """One question and what each system made of it, in the systems' order; None where a system does not say.

    `cluster` tells images apart. `images` are the paths under which the systems knew the picture. `question` is None
    and `references` empty where only scores are known.
    """

    id: str
    cluster: Hashable
    question: str | None
    references: tuple[str, ...]
    groups: Mapping[str, str]
    images: tuple[str, ...]
    answers: tuple[str | None, ...]
    scores: tuple[float | None, ...]

    @property
    def shows_image(self) -> bool:
        """Whether it is known which picture it is about."""
        return self.cluster != _by_itself(self.id)


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """The items that every system has, in the first one's order, and how many ids some system lacks."""

    items: tuple[AlignedItem, ...]
    dropped: int


def align(systems: Sequence[System], *, intersect: bool = False, remedy: str = _REMEDY) -> Alignment:
    """Put the systems' items side by side, by id.

    Args:
        systems: two or more.
        intersect: keep the ids that all systems have, instead of refusing where they differ.
        remedy: what a refusal for different ids tells the user to do.

    Raises:
        VlmLitError: the ids differ, the reference answers of an item differ, or the metrics do.
    """
    _check_metrics(systems)
    common = set(systems[0].ids).intersection(*(system.ids for system in systems[1:]))
    everything = set().union(*(system.ids for system in systems))
    if not intersect:
        for other in systems[1:]:
            _check_ids(systems[0], other, remedy)
    if not common:
        named = ", ".join(system.name for system in systems)
        raise VlmLitError(f"{named} have no id in common. Evaluate them on the same data.")
    items = tuple(_item(key, systems) for key in systems[0].ids if key in common)
    return Alignment(items=items, dropped=len(everything) - len(common))


def _check_metrics(systems: Sequence[System]) -> None:
    judged = [system for system in systems if system.scores and system.metric is not None]
    for other in judged[1:]:
        first = judged[0]
        # A metric's name holds every option that is not the default.
        if first.metric != other.metric or (first.options and other.options and first.options != other.options):
            raise VlmLitError(
                f"{first.name} and {other.name} were judged differently: {metric_text(first)} and "
                f"{metric_text(other)}. Judge both the same way (verb score)."
            )


def metric_text(system: System) -> str:
    """A metric and its options, as far as they are known: `pope (parser=official)`."""
    options = ", ".join(f"{name}={_shown(value)}" for name, value in system.options.items() if value != "")
    title = (system.metric or "").partition("[")[0] if options else system.metric
    return f"{title}{f' ({options})' if options else ''}"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_ids(first: System, other: System, remedy: str) -> None:
    strangers = set(first.ids) ^ set(other.ids)
    if strangers:
        raise VlmLitError(
            f"{first.name} and {other.name} were not asked the same: {len(first.ids):,} and {len(other.ids):,} items, "
            f"{len(strangers):,} ids in one of them only (such as {min(strangers)!r}). {remedy}"
        )


def _item(key: str, systems: Sequence[System]) -> AlignedItem:
    known = [system for system in systems if key in system.answers]
    answers = [system.answers[key] for system in known]
    first = answers[0] if answers else None
    return AlignedItem(
        id=key,
        cluster=_cluster(key, systems, answers),
        question=first.question if first else None,
        references=_references(key, known),
        groups=first.groups if first else {},
        images=tuple(dict.fromkeys(a.image for a in answers if a.image is not None and a.image != IN_RECORD)),
        answers=tuple(s.answers[key].prediction if key in s.answers else None for s in systems),
        scores=tuple(s.scores.get(key) for s in systems),
    )


def _references(key: str, known: Sequence[System]) -> tuple[str, ...]:
    """The references that all systems were judged by; one that was not judged may have been given none."""
    given = [s for s in known if s.answers[key].references or key in s.scores]
    for other in given[1:]:
        mine, theirs = given[0].answers[key].references, other.answers[key].references
        if mine != theirs:
            raise VlmLitError(
                f"{given[0].name} and {other.name} judged {key!r} by different references: {list(mine)} and "
                f"{list(theirs)}. Evaluate both on the same version of the data."
            )
    return given[0].answers[key].references if given else ()


def _cluster(key: str, systems: Sequence[System], answers: Sequence[Prediction]) -> Hashable:
    """The image's id, else its path, else the item itself."""
    image_id = next((s.image_ids[key] for s in systems if s.image_ids.get(key) is not None), None)
    if image_id is not None:
        return "image_id", image_id
    path = next((a.image for a in answers if a.image is not None and a.image != IN_RECORD), None)
    return ("image", path) if path is not None else _by_itself(key)


def _by_itself(key: str) -> Hashable:
    return "id", key
