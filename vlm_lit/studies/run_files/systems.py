"""Systems to compare: the answers and scores of each, from a run directory or a `scores.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from vlm_lit.errors import VlmLitError
from vlm_lit.schema import Prediction
from vlm_lit.studies.run_files.facts import Facts, read_facts
from vlm_lit.studies.run_files.predictions import read_predictions
from vlm_lit.studies.run_files.scores import read_scores

ANSWERS: Final = ("predictions.jsonl", "val_predictions.jsonl", "predict_predictions.jsonl")


@dataclass(frozen=True, kw_only=True)
class System:
    """One column of a comparison. Everything is by item id, in the order of its file.

    `metric` is its full name: `vqa_accuracy[normalize=always]`. `answers` is empty where only scores are known,
    `scores` where nothing was judged. `overall` is the metric's own figure where that was written down, a fraction.
    `unparsed` counts the answers that its metric could not read.
    """

    name: str
    path: Path
    answers: Mapping[str, Prediction]
    scores: Mapping[str, float]
    image_ids: Mapping[str, str | None]
    metric: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    overall: float | None = None
    unparsed: int | None = None
    facts: Facts = field(default_factory=Facts)

    @property
    def ids(self) -> Mapping[str, object]:
        """Every item of the system, as keys."""
        return self.answers or self.scores


def open_systems(paths: Sequence[Path], names: Sequence[str] | None = None) -> list[System]:
    """Open what is to be compared.

    Args:
        paths: run directories or `scores.json` files.
        names: what to call them; otherwise their folders' names, with as much of the path as tells them apart.

    Raises:
        VlmLitError: a path is neither, a file is broken, or the names do not fit.
    """
    if names is not None:
        _check_names(names, paths)
    named = zip(paths, names or distinct_names(paths), strict=True)
    return [_of_scores(path, name) if path.suffix == ".json" else _of_run(path, name) for path, name in named]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The last folders of each path, as few as make all names different; numbers where nothing else does."""
    parts = [_telling_parts(path) for path in paths]
    # `base/vqa` and `tuned/vqa` part at base and tuned.
    while len({part[-1:] for part in parts}) == 1 and min(map(len, parts)) > 1 and len(set(parts)) > 1:
        parts = [part[:-1] for part in parts]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(part[-1:])} ({number})" for number, part in enumerate(parts, 1)]


def _telling_parts(path: Path) -> tuple[str, ...]:
    full = path.absolute()
    # `runs/tuned/scores.json` says more by its folder; `runs/pope-tuned.json` by its own name.
    if full.suffix == ".json":
        return full.parent.parts[1:] if full.name == "scores.json" else full.with_suffix("").parts[1:]
    return full.parts[1:]


def _check_names(names: Sequence[str], paths: Sequence[Path]) -> None:
    if len(names) != len(paths):
        raise VlmLitError(f"--names gives {len(names)} names for {len(paths)} systems. Write one for each, in order.")
    if len(set(names)) != len(names) or not all(names):
        raise VlmLitError(f"--names {','.join(names)}: the names must differ and none may be empty.")


def _of_run(path: Path, name: str) -> System:
    file = next(iter(_answers_in(path)), None)
    if file is None:
        missing = "holds neither" if path.is_dir() else "is not a run directory: there is neither"
        raise VlmLitError(
            f"{path}: {missing} {' nor '.join(ANSWERS)}. Evaluate the run first (test, validate or predict), "
            "or give a scores.json."
        )
    return _answered(file, path, name)


def _answers_in(folder: Path) -> list[Path]:
    return [folder / name for name in ANSWERS if (folder / name).is_file()]


def _answered(file: Path, path: Path, name: str) -> System:
    answers = {item.id: item for item in read_predictions(file)}
    scores = {key: item.score for key, item in answers.items() if item.score is not None}
    facts = read_facts(file)
    return System(
        name=name,
        path=path,
        answers=answers,
        scores=scores,
        image_ids={key: item.image_id for key, item in answers.items()},
        metric=facts.metric if scores else None,
        facts=facts,
    )


def _of_scores(path: Path, name: str) -> System:
    found = read_scores(path)
    judged = System(
        name=name,
        path=path,
        answers={},
        scores=found.per_item,
        image_ids=found.image_ids,
        metric=found.metric,
        options=found.options,
        overall=None if found.overall is None else found.overall / 100,
        unparsed=found.unparsed,
    )
    # Scores written into a run directory were made from the answers there, if those have the same ids.
    for file in _answers_in(path.parent):
        run = _answered(file, path, name)
        if run.answers.keys() == found.per_item.keys():
            return replace(judged, answers=run.answers, image_ids={**run.image_ids, **found.image_ids}, facts=run.facts)
    return judged
