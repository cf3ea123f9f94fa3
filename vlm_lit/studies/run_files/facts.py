"""Facts about a run from its results and its config, for the head of a report."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from vlm_lit.files.strict_json import read_json
from vlm_lit.files.strict_yaml import read_strict
from vlm_lit.studies.run_files.weights import WEIGHTS, weights_of

NEVER_NULL: Final = ("answer score", "judged turns", "pad to square", "max length", "over length")
"""Settings without which a run's own classes do not know them: there is nothing to compare."""
# In a config, from its root; a run's own classes may lack some of them.
_SETTINGS: Final = {
    "revision": "model.init_args.revision",
    "adapter": "model.init_args.adapter",
    "seed": "seed_everything",
    "max new tokens": "model.init_args.max_new_tokens",
    "answer schema": "model.init_args.answer_schema",
    "answer from": "model.init_args.answer_from",
    "answer score": "model.init_args.answer_score",
    "sampling": "model.init_args.sampling",
    "judged turns": "data.init_args.judged_turns",
    "image processor": "data.init_args.image_processor",
    "pad to square": "data.init_args.pad_to_square",
    "max length": "data.init_args.max_length",
    "over length": "data.init_args.over_length",
    "prompt": "data.init_args.prompt",
    "system prompt": "data.init_args.system",
}
_LONGEST: Final = 160
"""Letters of a list or mapping that a report shows."""
AS_THEY_ARE: Final = "as they are"
_IMAGES: Final = {None: AS_THEY_ARE, "blank": "blank", "shuffle": "shuffled", "drop": "dropped"}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about a run; everything may be missing.

    `metric` names the first metric of its results, `shown` what a reader should see, in order. `course` is its config
    without seed and folder, and how far it came: runs that share it are seeds of one course. `folders` are those that
    its config has the data and their pictures in, `judges` the names and options of its metrics.
    """

    metric: str | None = None
    seed: str | None = None
    course: str | None = None
    shown: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    judges: tuple[tuple[str, Mapping[str, object]], ...] = ()


def read_facts(predictions: Path) -> Facts:
    """Gather what stands beside a run's predictions file.

    Raises:
        VlmLitError: a results or config file is there and broken.
    """
    split = next((name for name in ("val", "predict") if predictions.name.startswith(f"{name}_")), "test")
    folder = predictions.parent
    results = _results(folder / ("results.json" if split == "test" else f"{split}_results.json"))
    verbs = ({"val": "validate"}.get(split, split), "fit")
    names = ["config.yaml" if verb == "fit" else f"config.{verb}.yaml" for verb in verbs]
    config = next((_config(folder / name) for name in names if (folder / name).is_file()), {})
    shown = {
        WEIGHTS: weights_of(folder, results, config),
        "model": _text(results.get("model_id") or _at(config, "model.init_args.model_id")),
        "optimizer steps": _text(results.get("global_step")),
        **{name: _text(_at(config, key)) for name, key in _SETTINGS.items()},
        "data": _text(_at(config, f"data.init_args.{split}.path")),
        "images": _images(config),
        "answers written": datetime.fromtimestamp(predictions.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "software": _versions(results.get("versions")),
    }
    metrics = results.get("metrics")
    return Facts(
        metric=next((str(name) for name in metrics if "/" not in name), None) if isinstance(metrics, dict) else None,
        seed=shown["seed"] or None,
        course=_course(config, results.get("global_step")),
        shown={name: text for name, text in shown.items() if text},
        folders=tuple(dict.fromkeys(_folders(_at(config, "data.init_args")))),
        judges=tuple(_judges(_at(config, "model.init_args.metrics"))),
    )


def _results(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = read_json(path, remedy="Evaluate the run again, or remove the file.", any_value=True)
    return content if isinstance(content, dict) else {}


def _config(path: Path) -> dict[str, Any]:
    content = read_strict(path, "config")
    return content if isinstance(content, dict) else {}


def _at(settings: object, dotted: str) -> object:
    for key in dotted.split("."):
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _judges(metrics: object) -> Iterator[tuple[str, Mapping[str, object]]]:
    for one in metrics if isinstance(metrics, list) else []:
        name = one.get("name") if isinstance(one, dict) else None
        options = one.get("options") if isinstance(one, dict) else None
        if isinstance(name, str) and isinstance(options, dict):
            yield name, options


def _folders(settings: object) -> Iterator[Path]:
    """Of every source in a config's data the folder of its files, and that of its pictures."""
    if not isinstance(settings, dict):
        return
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _folders(value)
        elif name == "image_root" and isinstance(value, str):
            yield Path(value)
        elif name == "path":
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, str):
                    fixed = re.split(r"[*?\[]", path)[0]  # of a pattern what stands before it
                    yield Path(path) if Path(path).is_dir() else Path(fixed.rpartition("/")[0] or ".")


def _text(value: object) -> str:
    """A setting in words. Of a long list or mapping the beginning, with a digest by which two are told apart."""
    if value is None or isinstance(value, str):
        return value or ""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}... (SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _images(config: Mapping[str, Any]) -> str:
    blind = _at(config, "data.init_args.blind")
    return _IMAGES.get(blind, str(blind)) if config and (blind is None or isinstance(blind, str)) else ""


def _versions(versions: object) -> str:
    return ", ".join(f"{name} {value}" for name, value in versions.items()) if isinstance(versions, dict) else ""


def _course(config: Mapping[str, Any], steps: object) -> str | None:
    if not config:
        return None
    same = {key: value for key, value in config.items() if key not in ("seed_everything", "run_dir", "ckpt_path")}
    return json.dumps([same, config.get("ckpt_path") is None, steps], sort_keys=True, default=str)
