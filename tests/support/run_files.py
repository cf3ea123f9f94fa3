"""Run directories and score files as the verbs leave them, written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from PIL import Image

Row = dict[str, object]


def row(id_: str, score: float | None = None, **changes: object) -> Row:
    """A line of `predictions.jsonl`."""
    return {
        "id": id_,
        "image": None,
        "image_id": id_,
        "question": "What colour?",
        "references": ["red"],
        "prediction": "red" if score else "blue",
        "score": score,
        "groups": {},
        **changes,
    }


def rows(scores: Sequence[float | None], *, per_image: int = 2) -> list[Row]:
    """Questions `q0`, `q1`, ... of which `per_image` at a time show one image; the first half are numbers."""
    return [
        row(
            f"q{index}",
            score,
            image_id=f"image {index // per_image}",
            groups={"answer_type": "number" if index < len(scores) / 2 else "other"},
        )
        for index, score in enumerate(scores)
    ]


def write_run(
    folder: Path,
    lines: Sequence[Mapping[str, object]],
    *,
    metric: str | None = "vqa_accuracy",
    seed: int = 42,
    name: str = "predictions.jsonl",
    **model: object,
) -> Path:
    """A run directory with answers, results and config."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    results = {"metrics": {} if metric is None else {metric: 0.5, f"{metric}/other": 0.5}, "model_id": "llava"}
    (folder / "results.json").write_text(json.dumps({**results, "global_step": 9, "versions": {"torch": "2.13"}}))
    settings = {"seed_everything": seed, "run_dir": str(folder), "model": {"init_args": {"model_id": "llava", **model}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def write_scores(path: Path, per_item: Mapping[str, float], /, **changes: object) -> Path:
    """A `scores.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "metric": "vqa_accuracy",
        "options": {"normalize": "official"},
        "overall": 100 * sum(per_item.values()) / max(len(per_item), 1),
        "details": {},
        "groups": {},
        "n": len(per_item),
        "unparsed": 0,
        "per_item": per_item,
        "image_ids": {key: key for key in per_item},
        **changes,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_image(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    """A plain red picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)
    return path
