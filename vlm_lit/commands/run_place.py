"""Run directory and starting point of a run: `run_dir`, `--from`, `--overwrite` and `--ckpt_path`."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from difflib import get_close_matches
from glob import escape, glob
from pathlib import Path
from typing import Final

from vlm_lit.data.answers.vocabulary_building import VocabularySettings
from vlm_lit.errors import ConfigError
from vlm_lit.training.callbacks.kept_answers import FILE as ANSWERS
from vlm_lit.training.callbacks.step_checkpoint import FOLDER, checkpoints, newest_checkpoint
from vlm_lit.training.run_files import run_in

TIME_VARIABLE: Final = "VLM_LIT_RUN_TIME"
_FORMAT: Final = "%Y-%m-%d_%H-%M-%S"
_WRITTEN: Final = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
_FIELD: Final = re.compile(r"\{(\w*)\}")


def now() -> str:
    """The time that names this run's folder; the processes that a run starts have it from that run."""
    return os.environ.get(TIME_VARIABLE) or datetime.now().strftime(_FORMAT)


def placed(run_dir: str, time: str, *, newest: bool) -> Path:
    """A run directory with its `{time}` filled in: by that of the newest run there, or by `time`.

    Raises:
        ConfigError: it has another field, or several processes started by hand would each have a time of its own.
    """
    fields = set(_FIELD.findall(run_dir))
    if not fields:
        return Path(run_dir)
    if fields != {"time"}:
        raise ConfigError(f"run_dir is {run_dir}; the only field it can have is {{time}}.")
    if newest and (found := _newest(run_dir)) is not None:
        return found
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and TIME_VARIABLE not in os.environ:
        raise ConfigError(
            f"run_dir is {run_dir}, and each of the {os.environ['WORLD_SIZE']} processes would have a time of its own. "
            f'Start them with {TIME_VARIABLE}="$(date +{_FORMAT})", or name a folder.'
        )
    return Path(run_dir.replace("{time}", time))


def _newest(run_dir: str) -> Path | None:
    """The newest folder of a run that `{time}` stands for."""
    before, _, after = run_dir.partition("{time}")
    written = re.compile(re.escape(before) + _WRITTEN + re.escape(after))
    there = sorted(glob(f"{escape(before)}*{escape(after)}"))  # noqa: PTH207 - the pattern may be absolute
    runs = [Path(name) for name in there if written.fullmatch(name) and run_in(Path(name))]
    return runs[-1] if runs else None


# From where ----------------------------------------------------------------------------------------------------------


def from_run(verb: str, arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """The arguments with `--from RUN` written out, and that run: its config first, so that later options go on top.

    Raises:
        ConfigError: there is no run there.
    """
    given, words = _taken(arguments, "--from")
    if given is None or verb == "fit":
        return list(arguments), None
    run = Path(given)
    config = run / "config.yaml"
    if not config.is_file():
        raise ConfigError(f"--from {given}: there is no {config}, which fit writes. {instead(run)}")
    more = ["--config", str(config)]
    if _taken(words, "--run_dir")[0] is None:
        more.append(f"--run_dir={_free(run / f'{verb}-{now()}')}")
    if _taken(words, "--ckpt_path")[0] is None:
        adapter = run / "adapter"
        if checkpoints(run / FOLDER) or not adapter.is_dir():
            more.append("--ckpt_path=last")
        else:
            more += ["--ckpt_path=null", f"--model.init_args.adapter={adapter}"]
    if (run / ANSWERS).is_file():
        # All of its settings: what built the run's list would contradict the file that holds it.
        more.append(f"--data.init_args.vocabulary={json.dumps(asdict(VocabularySettings(file=str(run / ANSWERS))))}")
    return [*more, *words], run


def _free(folder: Path) -> Path:
    number, free = 1, folder
    while run_in(free) and TIME_VARIABLE not in os.environ:
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _taken(arguments: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """An option's value, the last one given, and the arguments without it."""
    value, rest, words = None, [], iter(arguments)
    for word in words:
        name, equals, after = word.partition("=")
        if name == option:
            value = after if equals else next(words, None)
        else:
            rest.append(word)
    return value, rest


def last_of(run: Path, verb: str) -> Path:
    """The newest checkpoint of a run.

    Raises:
        ConfigError: there is none; says what is there instead.
    """
    try:
        return newest_checkpoint(run)
    except ConfigError as error:
        fresh = "If it is to begin, leave --ckpt_path last out. " if verb == "fit" else ""
        raise ConfigError(f"{error} {fresh}{instead(run)}") from error


def instead(run: Path) -> str:
    """What stands where no run, or no checkpoint of it, was found: its adapter, its results, the runs beside it."""
    if (run / "adapter").is_dir():
        return f"It holds an adapter: use it by --model.init_args.adapter={run / 'adapter'}."
    near = sorted(_runs_near(run))
    if near:
        closest = get_close_matches(str(run), near, n=3, cutoff=0.0)
        return f"There are checkpoints in {', '.join(closest)}. Name the run by --run_dir."
    if not run.is_dir():
        return f"There is no folder {run}. Name the run by --run_dir."
    inside = sorted(path.name for path in run.iterdir() if not path.name.startswith("."))[:8]
    return f"{run} holds {', '.join(inside)}." if inside else f"{run} is empty."


def _runs_near(run: Path) -> Iterator[str]:
    for above in (run.parent, run):
        for path in above.glob("*") if above.is_dir() else ():
            if path != run and any((path / FOLDER).glob("*.ckpt")):
                yield str(path)


# Whether it may ------------------------------------------------------------------------------------------------------


def check_free(run: Path, ckpt_path: Path | None) -> None:
    """Refuse a `fit` that would write a new run into the folder of another one.

    Raises:
        ConfigError: it holds a run, and this one does not go on from it.
    """
    if lightnings := sorted(run.glob("hpc_ckpt_*.ckpt")):
        raise ConfigError(
            f"{lightnings[-1]} was written by Lightning in the middle of a step, and Lightning would go on from it "
            "rather than from anything else. Move it out of the folder; checkpoints/ has the run's own."
        )
    there = run_in(run)
    if not there or (ckpt_path is not None and _is_of(ckpt_path, run)):
        return
    kept = checkpoints(run / FOLDER)
    go_on = f"--ckpt_path last (from {kept[-1].name}) to go on with it, " if kept else ""
    raise ConfigError(
        f"{run} holds a run already ({', '.join(there[:4])}). Add {go_on}--overwrite to delete it and start anew, or "
        "--run_dir with another folder (runs/{time} is always a new one)."
    )


def _is_of(ckpt_path: Path, run: Path) -> bool:
    """Whether a checkpoint lies in a folder of the run, however the two paths are written."""
    # `checkpoints/` may itself be a link to another disk, and then only its name leads to the run.
    as_named, as_it_lies = ckpt_path.absolute().parent.parent.resolve(), ckpt_path.parent.resolve().parent
    return run.resolve() in (as_named, as_it_lies)


def resume_command(arguments: Sequence[str], run: Path, *, timed: bool) -> str:
    """What a user types to go on with a `fit`: what he typed before, quoted for a shell, from its last checkpoint.

    Args:
        arguments: what was typed behind `fit`.
        run: the run directory.
        timed: whether its name is a time, which only this run knows.
    """
    words = [word for word in _taken(arguments, "--ckpt_path")[1] if word.partition("=")[0] != "--overwrite"]
    if timed:
        words = [*_taken(words, "--run_dir")[1], f"--run_dir={run}"]
    return shlex.join(["python", "-m", "vlm_lit", "fit", *words, "--ckpt_path", "last"])
