"""The HTML page of a comparison: one file that needs no other, everything in it escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vlm_lit.plot_style import COLOURS
from vlm_lit.studies.comparing.alignment import AlignedItem, metric_text
from vlm_lit.studies.comparing.comparison import Comparison
from vlm_lit.studies.comparing.examples import selections
from vlm_lit.studies.comparing.headline import headline
from vlm_lit.studies.comparing.notes import notes
from vlm_lit.studies.comparing.plots import MOST_GROUPS, forest_plot, means_plot, shown_groups
from vlm_lit.studies.page_parts.marked_text import Segments, marked
from vlm_lit.studies.page_parts.pictures import EmbeddedPicture, picture
from vlm_lit.studies.page_parts.templates import environment

_TEMPLATE: Final = "comparison.html.j2"
_PANELS: Final = 3  # differences side by side in one plot


@dataclass(frozen=True, kw_only=True)
class Column:
    """One system's answer to an item. `same_as` and `compared_with` name systems further left."""

    system: str
    colour: str
    segments: Segments
    is_known: bool
    score: float | None
    same_as: str | None
    compared_with: str | None


@dataclass(frozen=True, kw_only=True)
class Card:
    """One item as the page shows it."""

    item: AlignedItem
    references: tuple[tuple[str, int], ...]
    picture: EmbeddedPicture
    columns: tuple[Column, ...]


@dataclass(frozen=True, kw_only=True)
class AnswerAgreement:
    """How many `different` answers a system gave, their mean length in words, and how many are another system's."""

    name: str
    different: int
    words: float
    same: tuple[tuple[str, int], ...]


def as_page(comparison: Comparison, *, examples: int) -> str:
    """The comparison as one HTML page, pictures and plots included.

    Args:
        comparison: what to show.
        examples: how many items stand side by side; see `selections`.
    """
    colours = colours_of(comparison)
    cards = [
        (chosen, [card_of(item, comparison) for item in chosen.items]) for chosen in selections(comparison, examples)
    ]
    return (
        environment()
        .get_template(_TEMPLATE)
        .render(
            comparison=comparison,
            title=" · ".join(system.name for system in comparison.systems),
            metric=next((metric_text(s.system) for s in comparison.standings if s.system.metric), None),
            judged_images=len({item.cluster for item in comparison.judged}),
            sentences=headline(comparison),
            notes=notes(comparison),
            facts=_facts(comparison),
            colours=colours,
            agreement=_agreement(comparison),
            means=means_plot(comparison.standings, [colours[s.system.name] for s in comparison.standings])
            if comparison.standings
            else None,
            forests=_forests(comparison),
            plotted=min(MOST_GROUPS, len(shown_groups(comparison))),
            cards=cards,
        )
    )


def colours_of(comparison: Comparison) -> dict[str, str]:
    """A colour for each system's name."""
    return {system.name: COLOURS[i % len(COLOURS)] for i, system in enumerate(comparison.systems)}


def _facts(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Rows of what is known about the systems: a name, then a value for each."""
    rows: dict[str, list[str]] = {"from": [str(system.path) for system in comparison.systems]}
    for name in dict.fromkeys(key for system in comparison.systems for key in system.facts.shown):
        rows[name] = [system.facts.shown.get(name, "") for system in comparison.systems]
    return list(rows.items())


def _agreement(comparison: Comparison) -> list[AnswerAgreement]:
    """How the systems whose answers are known answered, and how often alike."""
    answers = {
        system.name: [item.answers[index] for item in comparison.items]
        for index, system in enumerate(comparison.systems)
        if system.answers
    }
    return [
        AnswerAgreement(
            name=name,
            different=len(set(texts)),
            words=sum(len((text or "").split()) for text in texts) / len(texts),
            same=tuple((other, sum(x == y for x, y in zip(texts, answers[other], strict=True))) for other in answers),
        )
        for name, texts in answers.items()
    ]


def _forests(comparison: Comparison) -> list[str]:
    if not comparison.groups:
        return []
    starts = range(0, len(comparison.pairs), _PANELS)
    return [forest_plot(comparison.pairs[start : start + _PANELS], comparison) for start in starts]


def card_of(item: AlignedItem, comparison: Comparison) -> Card:
    """One item with its picture, its references and every system's answer."""
    folders = [system.path if system.path.is_dir() else system.path.parent for system in comparison.systems]
    data = [folder for system in comparison.systems for folder in system.facts.folders]
    times: dict[str, int] = {}
    for reference in item.references:
        times[reference] = times.get(reference, 0) + 1
    return Card(
        item=item,
        references=tuple(times.items()),
        picture=picture(item.images, folders, data),
        columns=tuple(_column(item, index, comparison) for index in range(len(comparison.systems))),
    )


def _column(item: AlignedItem, index: int, comparison: Comparison) -> Column:
    names = [system.name for system in comparison.systems]
    answer = item.answers[index]
    earlier = [(names[i], text) for i, text in enumerate(item.answers[:index]) if text is not None]
    same = next((name for name, text in earlier if text == answer), None)
    segments, nearest = _marked(answer, [text for _, text in earlier], is_same=same is not None)
    return Column(
        system=names[index],
        colour=colours_of(comparison)[names[index]],
        segments=segments,
        is_known=answer is not None,
        score=item.scores[index],
        same_as=same,
        compared_with=None if nearest is None else earlier[nearest][0],
    )


def _marked(answer: str | None, earlier: Sequence[str], *, is_same: bool) -> tuple[Segments, int | None]:
    if answer is None or is_same:
        return [(answer or "", False)], None
    return marked(answer, earlier)
