"""Tests of secrets over every verb: a token in the environment or in a config is in no file, and is not said."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support import small_config
from tests.support.refusals import to_stderr
from tests.support.run_files import rows, write_run
from vlm_lit.cli import VERBS, main

SECRET = "hf_canaryDoNotWriteMeDown"
OF_THE_ENVIRONMENT = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN"),
    *("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PGPASSWORD"),
)
TYPED = "--model.hf_token"
"""What somebody may take for an option, or write into a config."""


@dataclass(frozen=True)
class Desk:
    """A finished run with its config, and a folder for whatever a verb writes."""

    home: Path
    config: Path
    run: Path
    small: Path
    out: Path


def of_config(*more: str) -> Callable[[Desk, str], list[str]]:
    def words(desk: Desk, verb: str) -> list[str]:
        filled = [word.format(out=desk.out, small=desk.small) for word in more]
        return [verb, "--config", str(desk.config), *filled]

    return words


def evaluated(*more: str) -> Callable[[Desk, str], list[str]]:
    return of_config("--run_dir", "{out}", *more)


def study(desk: Desk, verb: str) -> list[str]:
    content = {
        "name": "small",
        "config": [str(desk.config)],
        "folder": str(desk.out / "study"),
        "metric": "exact_match",
        "factors": {"rate": {"key": "model.init_args.learning_rate", "values": [0.001, 0.002]}},
        "seeds": [0],
        "baseline": {"rate": 0.001},
    }
    desk.out.mkdir(exist_ok=True)
    (desk.out / "study.yaml").write_text(yaml.safe_dump(content))
    return [verb, "run", str(desk.out / "study.yaml")]


def compared(desk: Desk, verb: str) -> list[str]:
    runs = [write_run(desk.out / name, rows([score] * 8)) for name, score in (("a", 0.0), ("b", 1.0))]
    return [verb, *map(str, runs), "--output", str(desk.out / "compared")]


def scored(desk: Desk, verb: str) -> list[str]:
    desk.out.mkdir(exist_ok=True)
    records = desk.out / "answers.jsonl"
    records.write_text('{"id": "a", "prediction": "red", "references": ["red"]}\n')
    return [verb, "--metric", "exact_match", "--records", str(records), "--output", str(desk.out / "scores.json")]


CASES: dict[str, Callable[[Desk, str], list[str]]] = {
    "fit": evaluated(),
    "validate": evaluated(),
    "test": evaluated(),
    "predict": evaluated("--data.predict.path", "{small}/val.json"),
    "curate": lambda desk, verb: [verb, str(desk.small / "train.json"), "--output", str(desk.out)],
    "inspect": of_config("--format", "html", "--output", "{out}/page.html"),
    "budget": of_config("--format", "json", "--output", "{out}/budget.json"),
    "check": of_config("--output", "{out}/report.json"),
    "cache": of_config("--data.feature_cache", "{out}"),
    "verify": of_config("--conversations", "2", "--ranks", "1", "--format", "json", "--output", "{out}/verify.json"),
    "merge": lambda desk, verb: [verb, str(desk.run), "--output", str(desk.out)],
    "chat": lambda desk, verb: [verb, str(desk.run)],
    "pairs": of_config("--split", "train", "--metric", "exact_match", "--samples", "2", "--output", "{out}/p.jsonl"),
    "score": scored,
    "compare": compared,
    "anatomy": lambda desk, verb: [verb, str(desk.run), "--output", str(desk.out)],
    "study": study,
    "certify": lambda desk, verb: [verb, str(desk.run), "--output", str(desk.out / "certificate.json")],
    "parity": compared,
    "retention": lambda desk, verb: [verb, str(desk.run), "--config", str(desk.config), "--output", str(desk.out)],
    "workbench": lambda desk, verb: [verb, "--output", str(desk.out)],
}
OF_CONFIGS = ("fit", "validate", "test", "predict", "inspect", "budget", "check", "cache", "verify", "pairs")
WRITES_NOTHING = ("chat",)
ENDS_WITH = {
    "pairs": (2,),
    "retention": (3,),
}  # a model drawn at random makes no pair, and too few questions leave it open what it lost
SLOW = ("study",)  # four processes that import everything


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_llava: Path, small: Path) -> Iterator[Path]:
    """A folder with a finished run, made with the secret in the environment."""
    with pytest.MonkeyPatch.context() as patched:
        for name in OF_THE_ENVIRONMENT:
            patched.setenv(name, SECRET)
        folder = tmp_path_factory.mktemp("secrets")
        path = small_config.write(folder, tiny_llava, small)
        assert main(["fit", "--config", str(path)]) == 0
        yield folder


@pytest.fixture
def desk(home: Path, small: Path, tmp_path: Path) -> Desk:
    return Desk(home=home, config=home / "config.yaml", run=home / "run", small=small, out=tmp_path / "out")


def told(*folders: Path) -> list[Path]:
    """The files that hold the secret."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if SECRET.encode() in file.read_bytes() or SECRET in file.name]


def test_every_verb_has_a_case() -> None:
    assert CASES.keys() == VERBS.keys()


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=pytest.mark.slow) if verb in SLOW else verb for verb in CASES]
)
def test_a_secret_of_the_environment(
    verb: str, desk: Desk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("what is it?\n"))
    to_stderr()
    status = main(CASES[verb](desk, verb))
    shown = capfd.readouterr()
    assert status in (0, *ENDS_WITH.get(verb, ())), shown.err
    assert verb in WRITES_NOTHING or any(file.is_file() for file in desk.out.rglob("*"))
    assert told(desk.out, desk.home) == []
    assert SECRET not in shown.out + shown.err


@pytest.mark.parametrize("verb", OF_CONFIGS)
@pytest.mark.parametrize("place", ["typed", "config"])
def test_a_secret_in_a_config_is_refused_and_not_repeated(
    place: str, verb: str, desk: Desk, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = CASES[verb](desk, verb)
    if place == "typed":
        words += [TYPED, SECRET]
    else:
        content = yaml.safe_load(desk.config.read_text())
        content["model"]["init_args"]["hf_token"] = SECRET
        (tmp_path / "with.yaml").write_text(yaml.safe_dump(content))
        words[2] = str(tmp_path / "with.yaml")
    to_stderr()
    assert main(words) == 2
    shown = capfd.readouterr()
    assert "hf_token" in shown.err
    assert SECRET not in shown.out + shown.err
    assert told(desk.home, *([desk.out] if desk.out.exists() else [])) == []


def test_a_secret_that_is_written_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0" + SECRET.encode() + b"\0")
    (tmp_path / "b.bin").write_bytes(b"\0")
    assert told(tmp_path) == [tmp_path / "a.bin"]
