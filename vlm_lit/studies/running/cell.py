"""A cell (one run of a study): its folder, its settings, and the command line that starts it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlm_lit.studies.running.study_file import Level, Study


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study: a level of each factor, a seed, and what a search drew, by dotted key."""

    levels: Mapping[str, str]
    seed: int
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the seeds of one setting share: `rank=16,precision=nf4`. Drawn values are rounded, and told apart."""
        drawn = [f"{key.rpartition('.')[2]}={value:.4g}" for key, value in self.parameters.items()]
        exact = json.dumps(self.parameters, sort_keys=True).encode()
        tail = f"-{hashlib.sha256(exact).hexdigest()[:8]}" if self.parameters else ""
        return ",".join([*(f"{factor}={level}" for factor, level in self.levels.items()), *drawn]) + tail

    @property
    def key(self) -> str:
        """What names this run within its study: `rank=16,precision=nf4/seed=0`."""
        return f"{self.name}/seed={self.seed}"

    def folder(self, study: Study) -> Path:
        """The run directory, relative to the working directory."""
        return study.folder / "cells" / self.name / f"seed={self.seed}"


def chosen_levels(study: Study, cell: Cell) -> list[Level]:
    """A cell's levels, in the order of the factors: what a later one sets wins."""
    return [study.factor(name).level(level) for name, level in cell.levels.items()]


def configs(study: Study, cell: Cell) -> list[Path]:
    """A cell's config files; a later one wins."""
    return [*study.configs, *(path for level in chosen_levels(study, cell) for path in level.configs)]


def settings(study: Study, cell: Cell) -> dict[str, object]:
    """A cell's settings by dotted key, over those of its config files."""
    merged = dict(study.settings)
    for level in chosen_levels(study, cell):
        merged |= level.settings
    return {**merged, **cell.parameters}


def arguments(study: Study, cell: Cell) -> list[str]:
    """The words that start a cell, behind `python -m vlm_lit fit` or `test`."""
    words = [word for path in configs(study, cell) for word in ("--config", str(path))]
    words += [f"--run_dir={cell.folder(study)}", f"--seed_everything={cell.seed}"]
    return words + [f"--{key}={_word(value)}" for key, value in settings(study, cell).items()]


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
