"""Verb kills: SIGKILLs at random moments of the verbs that write, each of which must then end as if it was left alone.

`fit` has a soak of its own, `kill_soak`. Here the same command is started again after each kill, as a user would type
it again, and what it leaves is compared byte by byte with what an undisturbed one left.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from safetensors.torch import load_file
from soak_rows import Row
from soak_runs import begin_verb, config, last_words, workbench

from vlm_lit.files.staged import STAGED

_IMAGES: Final = 6  # of eight questions each
_HANGS: Final = 900.0  # seconds
_AT_MOST: Final = 300.0  # seconds of a verb's kills, about: those of a slow one are fewer

_WHOLE: Final = "exists and is not empty"

Left = dict[str, str]
"""What a verb has left: a digest of each file, or of what it says where its form may differ."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A command that writes, and what it writes.

    Args:
        words: the command's, for the folder that it is to write.
        left: what it has left in that folder.
    """

    words: Callable[[Path], list[str]]
    left: Callable[[Path], Left]


def run(options: argparse.Namespace) -> list[Row]:
    """A row a verb."""
    folder: Path = options.folder.absolute() / "verbs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draw, kills = random.Random(options.seed), max(2, options.kills // 10)
    return [_row(name, verb, folder, draw, kills) for name, verb in _verbs(folder).items()]


def _row(name: str, verb: Verb, folder: Path, draw: random.Random, kills: int) -> Row:
    alone, killed = folder / f"{name}-alone", folder / f"{name}-killed"
    seconds, status = _timed(verb.words(alone), alone)
    kills = max(2, min(kills, round(_AT_MOST / seconds)))
    figure = f"{kills} SIGKILLs at random over `{name}` ({seconds:.0f} s alone)"
    if status:
        here = f"left alone it ended with {status}: {last_words(alone)}"
        return Row(promise=3, figure=figure, here=here, held=False)
    for _ in range(kills):
        _timed(verb.words(killed), killed, draw.uniform(0.0, seconds))
    _, status = _timed(verb.words(killed), killed)
    # The last kill may have come when all was written: what is whole is not written over.
    refused = status == 2 and _WHOLE in last_words(killed)
    broken = [f"started again it ended with {status}: {last_words(killed)}"] if status and not refused else []
    if not broken:
        whole, found = verb.left(alone), verb.left(killed)
        broken += [f"different: {key}" for key in sorted({*whole, *found}) if whole.get(key) != found.get(key)][:4]
        broken += [f"left behind: {path.name}" for path in _dead(killed)][:4]
        held = f"{len(whole)} files as those of the one left alone; nothing left behind"
    return Row(promise=3, figure=figure, here="; ".join(broken) or held, held=not broken)


def _timed(words: list[str], folder: Path, killed_after: float | None = None) -> tuple[float, int]:
    """Seconds that a command took, and its status; -9 where it was killed."""
    begun = time.monotonic()
    process = begin_verb(words, folder.with_suffix(".log"))
    process.join(_HANGS if killed_after is None else killed_after)
    if process.exitcode is None:
        process.kill()
        process.join()
    assert process.exitcode is not None
    return time.monotonic() - begun, process.exitcode


def _dead(folder: Path) -> list[Path]:
    """Staged files and folders, in a folder and beside it, whose writers are gone."""
    beside = folder.parent.glob(f".{folder.name}*.tmp-*")
    return [*folder.rglob(STAGED), *folder.rglob(".*.old-*"), *beside]


# Verbs ---------------------------------------------------------------------------------------------------------------


def _verbs(folder: Path) -> dict[str, Verb]:
    bench = workbench(folder / "bench", _IMAGES, "plain")  # the base's own words: some of its answers are right
    path = config(folder / "run.yaml", bench, epochs=1, every_n_steps=2, validate_every=2)
    trained = folder / "trained"
    _, status = _timed(["fit", "--config", str(path), "--run_dir", str(trained)], trained)
    if status:
        raise SystemExit(f"the run to merge ended with {status}: {last_words(trained)}")
    asked = ["--config", str(path), "--split", "train", "--samples", "4", "--metric", "exact_match"]
    asked += ["--temperature", "1.5", "--data.eval_batch", "8"]
    images = str(bench / "images")
    return {
        "workbench": Verb(
            words=lambda to: ["workbench", "--output", str(to), "--train_images", "60", "--seed", "3"], left=_files
        ),
        "cache": Verb(
            words=lambda to: ["cache", "--config", str(path), "--data.feature_cache", str(to)], left=_features
        ),
        "pairs": Verb(words=lambda to: ["pairs", *asked, "--output", str(to / "pairs.jsonl")], left=_lines),
        "merge": Verb(words=lambda to: ["merge", str(trained), "--output", str(to)], left=_files),
        "curate": Verb(
            words=lambda to: [
                "curate", str(bench / "train.json"), "--images", images, "--output", str(to), "--overwrite",
            ],
            left=_files,
        ),
        "study": Verb(words=lambda to: ["study", "run", str(_study(to, path))], left=_adapters),
    }  # fmt: skip


def _study(to: Path, path: Path) -> Path:
    """A study of two cells that writes into a folder; its file lies beside it."""
    file = to.with_suffix(".yaml")
    content = {
        "name": "ranks", "config": str(path), "folder": str(to), "metric": "vqa_accuracy",
        "factors": {"rank": {"key": "model.init_args.lora.rank", "values": [4, 8]}}, "seeds": [0],
        "baseline": {"rank": 4}, "set": {"data.init_args.test.path": str(path.parent / "bench" / "test.json")},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content))
    return file


# What they leave -----------------------------------------------------------------------------------------------------


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(folder: Path) -> Left:
    """Of all files; where one names its own folder, the folder's name is taken out."""
    name = os.fsencode(folder.name)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): _digest(path.read_bytes().replace(name, b"FOLDER")) for path in paths}


def _features(folder: Path) -> Left:
    """Of the features of each image: which file of the store holds them depends on where a writer was killed."""
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        for key, value in load_file(path).items():
            found[key] = _digest(value.contiguous().view(-1).numpy().tobytes())
    return found


def _lines(folder: Path) -> Left:
    """Of the pairs, and of the answers without their order: a batch after a kill holds other ones."""
    answers = sorted((folder / "pairs.answers.jsonl").read_text(encoding="utf-8").splitlines())
    return {
        "pairs": _digest((folder / "pairs.jsonl").read_bytes()),
        "answers": _digest(json.dumps(answers).encode()),
    }


def _adapters(folder: Path) -> Left:
    """Of what the cells have trained, and of their answers to the test questions."""
    names = ("adapter_model.safetensors", "predictions.jsonl")
    paths = [path for path in sorted(folder.rglob("*")) if path.name in names]
    return {str(path.relative_to(folder)): _digest(path.read_bytes()) for path in paths}
