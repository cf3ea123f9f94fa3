"""Soak of checkpoints: every kind of damage, what is missing, other runs, full disks, numbers that are none."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from soak_rows import Row
from soak_runs import config, workbench

from tests.support.damaged import LOST, Damage, flipped, overwritten, strangers, truncated, without
from vlm_lit.errors import ConfigError
from vlm_lit.training.callbacks.step_checkpoint import FOLDER, checkpoints, newest_checkpoint
from vlm_lit.training.checkpoint_io import sound

_OTHER = {
    "precision": "--trainer.precision=bf16-mixed",
    "clipping": "--model.init_args.gradient_clip=0.1",
    "attention": "--model.init_args.attention=eager",
    "weight decay": "--model.init_args.optimizer.init_args.weight_decay=0.3",
    "learning rate": "--model.init_args.learning_rate=0.1",
    "system message": "--data.init_args.system=Be brief.",
    "prompt": "--data.init_args.prompt={question}!",
    "seed": "--seed_everything=8",
    "rank": "--model.init_args.lora.rank=3",
}

_HANGS = 900.0  # seconds after which a command should have ended


def run(options: argparse.Namespace) -> list[Row]:
    """The rows of this part."""
    folder: Path = options.folder.absolute() / "kept"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bench = workbench(folder / "workbench", 4)
    path = config(folder / "run.yaml", bench, epochs=2, every_n_steps=1, validate_every=10)
    status, said = _typed("fit", path, folder / "run")
    if status != 0:
        raise SystemExit(f"the run to be damaged ended with {status}: {said[-300:]}")
    newest = checkpoints(folder / "run" / FOLDER)[-1]
    return [
        _damaged(newest, folder / "damaged", Random(options.seed), places=max(100, options.inputs // 10)),
        _incomplete(newest, folder / "incomplete"),
        _other_runs(path, folder),
        _full(path, folder),
        _diverged(path, folder),
    ]


def _typed(verb: str, path: Path, folder: Path, *more: str, limit: int | None = None) -> tuple[int, str]:
    """The exit status of a command in a process of its own, and what it said on stderr."""
    words = [sys.executable, "-m", "vlm_lit", verb, "--config", str(path), "--run_dir", str(folder), *more]
    if limit is not None:
        words = ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "bash", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_HANGS)
    return done.returncode, done.stderr


def _sentence(said: str) -> str | None:
    """The one error line; None where there is a traceback, or no such line."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    return errors[0] if len(errors) == 1 and "Traceback" not in said else None


def _damaged(newest: Path, folder: Path, draw: Random, places: int) -> Row:
    folder.mkdir()
    path, whole = folder / newest.name, newest.read_bytes()
    size, unnoticed, count = len(whole), list[str](), 0
    damages: Iterator[Damage] = chain(
        truncated(size, places), flipped(size, places, draw), overwritten(size, places // 4, draw)
    )
    for damage in damages:
        path.write_bytes(damage.done(whole))
        count += 1
        if _found(path):
            unnoticed.append(damage.name)
    return Row(
        promise=3,
        figure=f"{count} damages of a checkpoint (cut, bits flipped, blocks lost or changed)",
        here=f"{count - len(unnoticed)} noticed" + "".join(f"; not {name}" for name in unnoticed[:3]),
        held=not unnoticed,
    )


def _found(path: Path) -> bool:
    """Whether a checkpoint is taken for whole; anything else than a refusal in words comes out."""
    try:
        sound(path, resumes=True)
    except ConfigError:
        return False
    return True


def _incomplete(newest: Path, folder: Path) -> Row:
    run, wrong, content = folder / FOLDER, list[str](), torch.load(newest, weights_only=True)
    run.mkdir(parents=True)
    before = newest.with_name(checkpoints(newest.parent)[-2].name)
    shutil.copy(before, run)
    cases: dict[str, Callable[[Path], object]] = {}
    for what in LOST:
        cases[what] = lambda path, what=what: torch.save(without(content, what), path)  # type: ignore[misc]
    for name, data in strangers(content).items():
        cases[name] = lambda path, data=data: path.write_bytes(data)  # type: ignore[misc]
    for name, write in cases.items():
        write(run / newest.name)
        if newest_checkpoint(folder).name != before.name:
            wrong.append(name)
    return Row(
        promise=4,
        figure=f"{len(LOST)} checkpoints that lack something, {len(cases) - len(LOST)} of other programs",
        here=f"{len(cases) - len(wrong)} passed over with a word" + "".join(f"; not {name}" for name in wrong[:3]),
        held=not wrong,
    )


def _other_runs(path: Path, folder: Path) -> Row:
    wrong = []
    cases = {name: (path, option) for name, option in _OTHER.items()}
    cases["records in another order"] = (_reordered(path, folder), "--trainer.log_every_n_steps=1")
    for name, (its, option) in cases.items():
        status, said = _typed("fit", its, folder / "run", "--ckpt_path", "last", option)
        error = _sentence(said)
        if status != 2 or error is None or "(was " not in error:
            wrong.append(f"{name} ({status})")
    return Row(
        promise=4,
        figure=f"{len(cases)} resumptions with other settings or data than the run began with",
        here=f"{len(cases) - len(wrong)} refused by key and both values" + "".join(f"; not {w}" for w in wrong),
        held=not wrong,
    )


def _reordered(path: Path, folder: Path) -> Path:
    settings: dict[str, Any] = yaml.safe_load(path.read_text())
    train = Path(settings["data"]["init_args"]["train"]["path"])
    moved = folder / "reordered"
    shutil.copytree(train.parent, moved)
    (moved / train.name).write_text(json.dumps(json.loads(train.read_text())[::-1], indent=1) + "\n")
    settings["data"]["init_args"]["train"]["path"] = str(moved / train.name)
    other = folder / "reordered.yaml"
    other.write_text(yaml.safe_dump(settings))
    return other


def _full(path: Path, folder: Path) -> Row:
    """A limit on the size of files stands for a disk without room: it needs no root."""
    run, whole = folder / "full", folder / "run" / "adapter" / "adapter_model.safetensors"
    largest = checkpoints(folder / "run" / FOLDER)[-1].stat().st_size // 1024
    status, said = _typed("fit", path, run, limit=largest // 2)
    error, left = _sentence(said), [p.name for p in (run / FOLDER).glob("*")]
    again, _ = _typed("fit", path, run)
    same = (run / "adapter" / whole.name).is_file() and (
        run / "adapter" / whole.name
    ).read_bytes() == whole.read_bytes()
    words = (
        f"exit status {status}, {'one sentence' if error else 'no sentence'}, {len(left)} files left; then {again}, "
    )
    return Row(
        promise=3,
        figure="a run without room for a checkpoint, then with",
        here=words + ("the same adapter" if same else "another adapter"),
        held=status == 2 and error is not None and not left and again == 0 and same,
    )


def _diverged(path: Path, folder: Path) -> Row:
    run = folder / "diverged"
    more = ("--model.init_args.learning_rate=1e30", "--model.init_args.warmup_ratio=0", "--trainer.max_steps=1",
            "--model.init_args.gradient_clip=null", "--trainer.limit_val_batches=0")  # fmt: skip
    status, said = _typed("fit", path, run, *more)
    kept = [str(p.relative_to(run)) for p in run.rglob("*") if p.suffix in (".safetensors", ".ckpt")]
    finite = all(_finite(run / name) for name in kept)
    return Row(
        promise=10,
        figure="a run whose only step makes the weights too large for float32, or nearly so",
        here=f"exit status {status}; files of weights: {len(kept)}, {'all finite' if finite else 'NOT finite'}",
        held=finite and (status == 0 or _sentence(said) is not None),
    )


def _finite(path: Path) -> bool:
    from safetensors.torch import load_file

    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)["state_dict"]
    return all(bool(tensor.isfinite().all()) for tensor in state.values())
