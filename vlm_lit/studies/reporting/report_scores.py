"""Scores of a study's finished runs by question, and the check that all were asked the same."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlm_lit.errors import VlmLitError
from vlm_lit.studies.comparing.alignment import AlignedItem, align
from vlm_lit.studies.estimates.bootstrap import Floats
from vlm_lit.studies.run_files.systems import System, open_systems

RunKey = tuple[str, int]
"""A cell setting's name and a seed."""

_ROUNDING = 1e-6
_REMEDY = "Test both on the same data, or take one of them out of the study's folder and run the study again."


@dataclass(frozen=True, kw_only=True)
class StudyScores:
    """The scores of the questions that every run was judged on.

    `clusters` [items] are their images. `of_run` holds [items] fractions for each run. `unjudged` questions lack a
    score in some run and are left out. `own_figures` are the metric's own values that are no means of item scores.
    """

    clusters: tuple[Hashable, ...]
    of_run: Mapping[RunKey, Floats]
    unjudged: int
    own_figures: Mapping[RunKey, float]

    @property
    def images(self) -> int:
        """How many images the questions are about."""
        return len(set(self.clusters))

    def seeds(self, *names: str) -> tuple[int, ...]:
        """The seeds that all these settings were finished with, in the order of the first one's runs."""
        return tuple(
            seed for name, seed in self.of_run if name == names[0] and all((n, seed) in self.of_run for n in names)
        )

    def matrix(self, name: str, seeds: Sequence[int]) -> Floats:
        """[items, seeds] of one setting."""
        return np.stack([self.of_run[name, seed] for seed in seeds], axis=1)


def read_study_scores(metric: str, folders: Mapping[RunKey, Path], figures: Mapping[RunKey, float]) -> StudyScores:
    """Read the predictions of finished runs, two at a time.

    Args:
        metric: as results name it: `vqa_accuracy`, or `vqa_accuracy/number` for one group's questions.
        folders: the run directories.
        figures: the metric's value that each run wrote down.

    Raises:
        VlmLitError: a run's files are missing or broken, its questions, references or metric are not those of the first
            run, or its item scores are of another metric.
    """
    keys = list(folders)
    first = _opened(keys[0], folders[keys[0]], metric)
    rows: dict[RunKey, list[float | None]] = {}
    items: tuple[AlignedItem, ...] = ()
    for key in keys:
        other = first if key == keys[0] else _opened(key, folders[key], metric)
        items = _of_group(align([first, other], remedy=_REMEDY).items, metric)
        rows[key] = [item.scores[1] for item in items]
    judged = [i for i in range(len(items)) if all(row[i] is not None for row in rows.values())]
    if not judged:
        raise VlmLitError(
            f"There is no question that {metric} scored in all {len(keys)} finished runs. A study's metric is a mean "
            "of questions' scores, over all of them (vqa_accuracy) or those of a group (vqa_accuracy/number)."
        )
    of_run = {key: np.array([row[i] for i in judged], float) for key, row in rows.items()}
    return StudyScores(
        clusters=tuple(items[i].cluster for i in judged),
        of_run=of_run,
        unjudged=len(items) - len(judged),
        own_figures={
            key: figures[key]
            for key, scores in of_run.items()
            if key in figures and abs(figures[key] - scores.mean()) > _ROUNDING
        },
    )


def run_name(key: RunKey) -> str:
    """How a message calls one run of a study."""
    return f"{key[0]}, seed {key[1]}"


def _opened(key: RunKey, folder: Path, metric: str) -> System:
    (system,) = open_systems([folder], [run_name(key)])
    scored_by = metric.partition("/")[0]
    if system.metric is not None and system.metric != scored_by:
        raise VlmLitError(
            f"{folder}: the questions were scored by {system.metric}, the study's metric is {metric}. Make {scored_by} "
            "the first of data's or the model's metrics, or name the other one in the study."
        )
    return system


def _of_group(items: tuple[AlignedItem, ...], metric: str) -> tuple[AlignedItem, ...]:
    """The questions that a metric's figure is about: all, or those of one group."""
    _, is_group, value = metric.partition("/")
    return tuple(item for item in items if value in _names_of_groups(item)) if is_group else items


def _names_of_groups(item: AlignedItem) -> set[str]:
    """As metrics call them: the official answer types by themselves, others as group/value."""
    return {value if name == "answer_type" else f"{name}/{value}" for name, value in item.groups.items()}
