"""The jobs: what is run at each commit, with settings that hold under either commit's config keys."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml
from commit_tree import SameNumbersError, run_code
from number_records import FAILED
from run_numbers import Lines, run_numbers

Settings = Mapping[str, object]

_FIT_AND_TEST: Final = """
import sys
from vlm_lit.cli import main
words = sys.argv[1:]
sys.exit(main(["fit", *words]) or main(["test", *words, "--ckpt_path", "last"]))
"""
"""Both verbs of `python -m vlm_lit` in one process: to start a second takes as long as either of them."""

RENAMED: Final[dict[str, str]] = {}
"""Old and new dotted names of config keys that were renamed. A key that only moved into a group is found without."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A `fit` of a few steps and a `test`, as a user types them.

    Args:
        config: the shipped config that it is run from.
        settings: what is changed in it, by dotted key.
        inputs: the tiny checkpoints and data that it takes, of `tiny_inputs`.
        study: whether it runs as a cell of a study.
    """

    config: str = "quickstart.yaml"
    settings: Settings = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    study: bool = False


_SHORT: Final = {
    "trainer.max_epochs": 1,
    "trainer.max_steps": 3,
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": False,
    "data.init_args.num_workers": 0,
    "data.init_args.val.limit": 8,
    "data.init_args.test.limit": 48,
}


def _tiny(family: str, changed: Settings, *, data: str = "talks", study: bool = False) -> Job:
    """A job on a tiny family."""
    usual = {
        **_SHORT,
        "model.init_args.model_id": f"inputs/{family}",
        "model.init_args.lora.dropout": 0.1,
        "model.init_args.max_new_tokens": 6,
        **{f"data.init_args.{split}.path": f"inputs/{data}/{split}.json" for split in ("train", "val", "test")},
        "data.init_args.effective_batch": 9,
        "data.init_args.micro_batch": 4,
        "data.init_args.eval_batch": 4,
    }
    return Job(settings={**usual, **changed}, inputs=(family, data), study=study)


# A family of each kind, and with it a part of the package that the others do not use.
JOBS: Final[dict[str, Job]] = {
    "quickstart": Job(settings={**_SHORT, "data.init_args.effective_batch": 32}),
    "easy_vqa": Job(config="easy_vqa.yaml", settings={**_SHORT, "data.init_args.effective_batch": 8}),
    "llava": _tiny("llava", {"data.init_args.feature_cache": "features"}),
    "qwen": _tiny("qwen2_5_vl", {"model.init_args.parts.vision_tower.training": "lora"}),
    "idefics": _tiny("smolvlm", {"data.init_args.micro_tokens": 400}),
    "gemma": _tiny(
        "paligemma",
        {"model.init_args.answer_from": ["red", "blue", "yes", "no", "2"], "data.init_args.packing": False},
        data="questions",
    ),
    "mllama": _tiny(
        "mllama",
        {
            "model.init_args.activation_checkpointing": True,
            "model.init_args.parts.language_model.learning_rate": 3e-4,  # at the usual one it learns to say nothing
            "data.init_args.packing": False,
        },
    ),
    "study": _tiny("llava", {}, study=True),
}


def known_keys(printed: str) -> set[str]:
    """Every dotted key of a printed config."""
    found: set[str] = set()

    def walk(node: object, above: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                found.add(above + key)
                walk(value, f"{above}{key}.")

    walk(yaml.safe_load(printed), "")
    return found


def located(key: str, known: set[str], renamed: Mapping[str, str]) -> str:
    """The name by which a commit knows a key: its own, its new one, or the one place in a group where it now lies.

    Raises:
        SameNumbersError: there is none, or there are several.
    """
    if key in known:
        return key
    if renamed.get(key) in known:
        return renamed[key]
    top, _, tail = key.partition(".")
    tail = "." + tail.removeprefix("init_args.")
    places = sorted(name for name in known if name.startswith(f"{top}.") and name.endswith(tail))
    if len(places) != 1:
        found = f"it has {' and '.join(places)}" if places else "it has nothing of that name"
        raise SameNumbersError(f"The commit's config has no key {key}; {found}. Say which it is: --key {key}=NEW.")
    return places[0]


def nested(settings: Settings) -> dict[str, object]:
    """Settings by dotted key as a config file holds them."""
    made: dict[str, object] = {}
    for key, value in settings.items():
        *above, last = key.split(".")
        node = made
        for name in above:
            below = node.setdefault(name, {})
            assert isinstance(below, dict)
            node = below
        node[last] = value
    return made


def numbers_of(
    tree: Path,
    home: Path,
    inputs: Path,
    names: Sequence[str],
    easy_vqa: Path | None,
    keys: Mapping[str, str],
    workers: int,
) -> dict[str, dict[str, Lines]]:
    """Run the jobs with the code of `tree` in the folder `home`; each one's numbers, or why it failed.

    Raises:
        SameNumbersError: the commit's config cannot be printed, or lacks a key.
    """
    home.mkdir()
    if inputs.exists():
        shutil.copytree(inputs, home / "inputs")
    imported = run_code(tree, home, ["-c", "import vlm_lit; print(vlm_lit.__file__)"]).strip()
    if not Path(imported).resolve().is_relative_to(tree.resolve()):
        raise SameNumbersError(
            f"vlm_lit was imported from {imported}, not from {tree}: the numbers would be another tree's."
        )
    printed = run_code(
        tree, home, ["-m", "vlm_lit", "fit", "--config", str(tree / "configs/quickstart.yaml"), "--print_config"]
    )
    known = known_keys(printed)
    _prepare(tree, home, names, easy_vqa)
    files = {name: _write(name, tree, home, known, {**RENAMED, **keys}) for name in names}

    def numbers(name: str) -> dict[str, Lines]:
        try:
            made = _run(name, tree, home, files[name])
            print(f"  {name}", flush=True)
            return made
        except (SameNumbersError, FileNotFoundError) as error:
            print(f"  {name}: failed", flush=True)
            return {FAILED: str(error).splitlines()}

    pool = ThreadPoolExecutor(workers)
    try:
        return dict(zip(names, pool.map(numbers, names), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(tree: Path, home: Path, names: Sequence[str], easy_vqa: Path | None) -> None:
    """Let the commit write its own data and base model."""
    if {"quickstart", "easy_vqa"} & set(names):
        run_code(tree, home, ["-m", "vlm_lit", "workbench", "--output", "workbench"])
    if "easy_vqa" in names:
        script = next((tree / "scripts").rglob("prepare_easy_vqa.py"))
        run_code(tree, home, [str(script), "--source", str(easy_vqa), "--output", "easy_vqa"])


def _write(name: str, tree: Path, home: Path, known: set[str], renamed: Mapping[str, str]) -> list[Path]:
    """A job's config files for this commit; of a study, the study's file."""
    job = JOBS[name]
    settings = {located(key, known, renamed): value for key, value in job.settings.items()}
    configs = [tree / "configs" / job.config, home / f"{name}.yaml"]
    configs[1].write_text(yaml.safe_dump(nested({**settings, "run_dir": f"runs/{name}"})), encoding="utf-8")
    if not job.study:
        return configs
    rank = located("model.init_args.lora.rank", known, renamed)
    content = {
        "name": name,
        "config": [str(path) for path in configs],
        "folder": f"runs/{name}",
        "metric": "vqa_accuracy",
        "factors": {"rank": {"key": rank, "values": [4, 8]}},
        "seeds": [3],
        "baseline": {"rank": 4},
    }
    file = home / f"{name}_study.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return [file]


def _run(name: str, tree: Path, home: Path, files: Sequence[Path]) -> dict[str, Lines]:
    run, log = home / "runs" / name, home / f"{name}.log"
    if JOBS[name].study:
        run_code(tree, home, ["-m", "vlm_lit", "study", "run", str(files[0]), "--cells", "rank=4"], log)
        cells = [path.parent for path in run.rglob("results.json")]
        if len(cells) != 1:
            raise FileNotFoundError(f"{len(cells)} cells below {run} have a results.json; one was run.")
        return run_numbers(cells[0], home)
    words = [word for path in files for word in ("--config", str(path))]
    run_code(tree, home, ["-c", _FIT_AND_TEST, *words], log)
    return run_numbers(run, home)
