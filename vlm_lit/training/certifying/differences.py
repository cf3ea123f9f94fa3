"""Differences between a certificate and what is here, each named: the record, the picture, the option, the library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from vlm_lit.errors import listed
from vlm_lit.training.certifying.certificate import Certificate, SplitDigests, WeightDigests
from vlm_lit.training.identity import leaves, listed_changes
from vlm_lit.training.run_settings import changed

Section = Literal["data", "base", "processor", "settings", "course", "code", "versions", "machine", "weights"]
_NAMED: Final = 6
"""Records or pictures that a difference names."""

OF_THE_RUN: Final[tuple[Section, ...]] = ("data", "base", "processor", "settings", "course", "weights")
"""What a run is: where one of these differs, it is another run, and to do it again would say nothing."""
OF_THE_PLACE: Final[tuple[Section, ...]] = ("code", "versions", "machine")
"""What may differ from place to place: the last bits may differ then."""


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """One thing that is not as the certificate says.

    Args:
        section: what it is about.
        words: what differs, as it was and as it is.
    """

    section: Section
    words: str


def deviations(kept: Certificate, here: Certificate) -> list[Deviation]:
    """All that differs between a certificate and another one, made of what is here."""
    found: list[Deviation] = []
    for split in ("train", "val"):
        found += [
            Deviation(section="data", words=f"{split}: {words}")
            for words in _of_split(getattr(kept, split), getattr(here, split))
        ]
    sections: tuple[Section, ...] = ("base", "processor", "settings", "course", "versions", "machine")
    for section in sections:
        was, now = leaves(getattr(kept, section)), leaves(getattr(here, section))
        names = changed(was, now)
        if names and was:  # of an older run libraries and machine may not be known
            found.append(Deviation(section=section, words=listed_changes(names, was, now)))
    found += [Deviation(section="code", words=words) for words in _of_code(kept.code, here.code)]
    found += [Deviation(section="weights", words=words) for words in _of_weights(kept.weights, here.weights)]
    return found


def _of_code(kept: Mapping[str, str], here: Mapping[str, str]) -> Iterator[str]:
    if kept.get("sha256") == here.get("sha256") or not kept:
        return
    if len(kept) == 1:
        yield "the package's files are others than those that made the run"
        return
    names = [name for name in {**kept, **here} if kept.get(name) != here.get(name) and name != "sha256"]
    yield f"the package's files differ: {listed(names, _NAMED)}"


# Data ----------------------------------------------------------------------------------------------------------------


def _of_split(kept: SplitDigests | None, here: SplitDigests | None) -> Iterator[str]:
    if kept is None or here is None:
        if kept is not here:
            yield "there is none in the certificate" if kept is None else "there is none here"
        return
    if kept.ids != here.ids:
        yield from _of_ids(kept.ids, here.ids)
    # Records are told apart by their ids, which none has twice.
    place = {name: i for i, name in enumerate(here.ids)}
    pairs = [(i, place[name]) for i, name in enumerate(kept.ids) if name in place]
    other = [kept.ids[i] for i, k in pairs if kept.words[i] != here.words[k]]
    if other:
        yield f"other words in {_counted(other, 'record')}"
    pictures: dict[str, list[str]] = {}
    for i, k in pairs:
        was, now = _pictures(kept, i), _pictures(here, k)
        for number, (name, digest) in enumerate(was):
            if number >= len(now) or now[number][1] != digest:
                pictures.setdefault(name, []).append(kept.ids[i])
        for name, _ in now[len(was) :]:
            pictures.setdefault(name, []).append(kept.ids[i])
    if pictures:
        shown = [f"{name} (record {listed(ids, 2)})" for name, ids in list(pictures.items())[:_NAMED]]
        more = f" and {len(pictures) - _NAMED} more" if len(pictures) > _NAMED else ""
        yield f"{'another picture' if len(pictures) == 1 else 'other pictures'}: {', '.join(shown)}{more}"


def _of_ids(kept: Sequence[str], here: Sequence[str]) -> Iterator[str]:
    known, now = set(kept), set(here)
    missing, more = [name for name in kept if name not in now], [name for name in here if name not in known]
    if missing:
        yield f"{_counted(missing, 'record')} not here"
    if more:
        yield f"{_counted(more, 'record')} not in the certificate"
    if not missing and not more:
        first = next(i for i, (was, is_) in enumerate(zip(kept, here, strict=True)) if was != is_)
        yield f"the records are in another order, from number {first + 1} on (was {kept[first]}, is {here[first]})"


def _pictures(split: SplitDigests, record: int) -> list[tuple[str, str]]:
    return [(split.names[place], split.pictures[place]) for place in split.pictures_of[record]]


def _counted(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}: {listed(names, _NAMED)}"


# Weights -------------------------------------------------------------------------------------------------------------


def _of_weights(kept: WeightDigests, here: WeightDigests) -> Iterator[str]:
    """What differs of the weights that lie here; those that do not are nothing to compare."""
    for step in sorted(set(kept.steps) & set(here.steps)):
        names = other_tensors(kept, step, here.at(step) or [], here.names)
        if names:
            yield f"checkpoint of step {step}: {_counted(names, 'parameter')}"
        elif kept.optimizers[kept.steps.index(step)] != here.optimizers[here.steps.index(step)]:
            yield f"checkpoint of step {step}: the optimizer's state"
    if kept.adapter is not None and here.adapter is not None and kept.adapter != here.adapter:
        yield f"the adapter of step {kept.adapter_step}"


def other_tensors(kept: WeightDigests, step: int, now: Sequence[str], names: Sequence[str]) -> list[str]:
    """The parameters whose weights after a step are others than the certificate says.

    Args:
        kept: the certificate's.
        step: a step of which it has them.
        now: the digests here, a parameter each.
        names: the parameters.
    """
    was = dict(zip(kept.names, kept.at(step) or [], strict=True))
    found = dict(zip(names, now, strict=True))
    return [name for name in {**was, **found} if was.get(name) != found.get(name)]
