"""Studies whose runs are written by hand with the package's own writers, so that their scores are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from tests.support.event_files import Points, write_events
from vlm_lit.files.whole import write_whole
from vlm_lit.schema import Prediction
from vlm_lit.studies.running.cell import Cell
from vlm_lit.studies.running.cell_record import CellRecord, Status, write_record
from vlm_lit.studies.running.digest import digests
from vlm_lit.studies.running.study_file import Study, read_study
from vlm_lit.training.callbacks.run_directory import write_predictions
from vlm_lit.training.run_result import RunResult

METRIC = "exact_match"


def write_study(folder: Path, factors: Mapping[str, Sequence[object]], **changes: object) -> Path:
    """A study file over a config beside it; a factor sets the key of its name, and first levels are the baseline."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.yaml").write_text("seed_everything: 1\n")
    content = {
        "name": "small",
        "config": ["base.yaml"],
        "folder": str(folder / "study"),
        "metric": METRIC,
        "factors": {
            name: {"key": f"model.init_args.{name}", "values": list(levels)} for name, levels in factors.items()
        },
        "seeds": [0, 1, 2],
        "baseline": {name: levels[0] for name, levels in factors.items()},
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def open_study(folder: Path, factors: Mapping[str, Sequence[object]], **changes: object) -> Study:
    """The same, read."""
    return read_study(write_study(folder, factors, **changes))


def falling(steps: int, *, to: float, seconds: float = 1.0) -> Points:
    """A loss that falls in a straight line from 2 to `to`, a step every so many seconds."""
    return [(i, i * seconds, 2.0 + (to - 2.0) * i / (steps - 1)) for i in range(steps)]


def write_cell(
    study: Study,
    levels: Mapping[str, str],
    seed: int,
    scores: Sequence[float | None] = (),
    *,
    status: Status = "done",
    error: str | None = None,
    per_image: int = 2,
    trained: int = 1000,
    fit_seconds: float = 60.0,
    events: Mapping[str, Points] | None = None,
    measured: float | None = None,
    digest: str | None = None,
    parameters: Mapping[str, object] | None = None,
    prefix: str = "q",
) -> Path:
    """One run's directory; question `q3` is about image 1 where two questions share an image."""
    cell = Cell(levels=levels, seed=seed, parameters=parameters or {})
    folder = cell.folder(study)
    folder.mkdir(parents=True, exist_ok=True)
    record = CellRecord(
        study=study.name,
        levels=cell.levels,
        seed=seed,
        digest=digest or digests(study, [cell])[cell.key],
        status=status,
        started=f"2026-01-01T00:00:{seed:02d}+00:00",
        parameters=cell.parameters,
        error=error,
        seconds={"fit": fit_seconds, "test": 5.0} if status == "done" else {},
        peak_memory_mib=512.0,
        worker="host-a",
    )
    write_record(folder, record)
    if status == "done":
        _write_results(folder, scores, per_image, prefix, measured, study.metric.partition("/")[0])
        (folder / "adapter").mkdir(exist_ok=True)
        save_file({"lora": np.zeros(trained, np.float32)}, folder / "adapter" / "adapter_model.safetensors")
        if events:
            write_events(folder, events)
    return folder


def _write_results(
    folder: Path, scores: Sequence[float | None], per_image: int, prefix: str, measured: float | None, metric: str
) -> None:
    lines = [
        Prediction(
            id=f"{prefix}{i}",
            image=None,
            image_id=str(i // per_image),
            question="What colour?",
            references=("red",),
            prediction="red" if score else "blue",
            score=score,
            groups={"answer_type": "number" if i % 2 else "other"},
        )
        for i, score in enumerate(scores)
    ]
    write_predictions(folder / "predictions.jsonl", lines)
    known = [score for score in scores if score is not None]
    odd = [score for score in scores[1::2] if score is not None]
    figures = {
        metric: sum(known) / len(known) if measured is None else measured,
        f"{metric}/number": sum(odd) / len(odd),
    }
    result = RunResult(split="test", n=len(lines), metrics=figures, model_id="tiny", global_step=20, versions={})
    write_whole(folder / "results.json", json.dumps(asdict(result)))
