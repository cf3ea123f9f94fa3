"""Steps of the stories: what a user types from base to tuned to merged to the page of answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlm_lit.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
ON_A_CPU = [
    "--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.enable_progress_bar=false",
    "--data.init_args.num_workers=0", "--trainer.log_every_n_steps=1",
]  # fmt: skip


def typed(*words: object) -> None:
    """One command, which succeeds."""
    assert main([str(word) for word in words]) == 0


def results(run: Path) -> dict[str, Any]:
    """A run's results.json."""
    found: dict[str, Any] = json.loads((run / "results.json").read_text())
    return found


def answers(run: Path) -> dict[str, str]:
    """A run's answers by id."""
    lines = map(json.loads, (run / "predictions.jsonl").read_text().splitlines())
    return {line["id"]: line["prediction"] for line in lines}


def story(home: Path, config: str, model: Path, data: list[str], *more: str, steps: int) -> dict[str, Path]:
    """Base, tuned and merged, each asked the same questions. Returns where each run wrote."""
    shared = ["--config", CONFIGS / f"{config}.yaml", *more, *ON_A_CPU, *data]
    plain = ["--config", CONFIGS / "overlay" / "bf16_frozen.yaml"]
    runs = {name: home / name for name in ("base", "tuned", "merged")}
    typed("test", *shared, *plain, "--run_dir", runs["base"], "--model.init_args.model_id", model)
    tuned = [*shared, "--run_dir", runs["tuned"], "--model.init_args.model_id", model]
    typed("fit", *tuned, "--trainer.max_steps", steps, "--trainer.limit_val_batches", 1)
    typed("test", *tuned, "--trainer.max_steps", steps, "--ckpt_path", "last")
    typed("merge", runs["tuned"], "--output", home / "model")
    typed("test", *shared, *plain, "--run_dir", runs["merged"], "--model.init_args.model_id", home / "model")
    typed("compare", *runs.values(), "--output", home / "comparison")
    return runs
