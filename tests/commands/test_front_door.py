"""Tests of the command line's entry point: its help, its speed, and its answer to a mistyped word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.refusals import refusal
from vlm_lit import __version__
from vlm_lit.cli import VERBS, main

HEAVY = ("torch", "lightning", "transformers", "PIL", "datasets", "peft", "jsonargparse", "numpy", "yaml")
PROBE = (
    "import sys, json; from vlm_lit.cli import main; status = main(sys.argv[1:]);"
    "print(json.dumps([status, sorted({name.split('.')[0] for name in sys.modules})]))"
)

# Prints how often circles were looked for while the libraries were imported, and how much of them is set aside.
SEARCHES = """
import gc
from vlm_lit.commands.lightning_verb import ended
begun = []
gc.callbacks.append(lambda phase, _: begun.append(phase))
ended(lambda: print(len(begun), gc.isenabled(), gc.get_freeze_count() > 100_000))
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


def test_help_lists_every_verb_and_imports_nothing_heavy() -> None:
    shown = run("-c", PROBE, "--help")
    *lines, last = shown.stdout.splitlines()
    status, modules = json.loads(last)
    assert status == 0
    assert not set(HEAVY) & set(modules)
    for name, verb in VERBS.items():
        assert any(line.split() == [name, *verb.help.split()] for line in lines)


def test_the_module_runs_as_a_program() -> None:
    shown = run("-m", "vlm_lit", "fti")
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert shown.stderr.startswith("error: 'fti' is not a verb. Did you mean 'fit'? Verbs are: fit, ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_no_arguments_show_the_help_and_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: python -m vlm_lit <verb> [options]")


def test_an_unknown_verb_without_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "xyzzy") == f"error: 'xyzzy' is not a verb. Verbs are: {', '.join(VERBS)}."


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--outpt", "x"], "--outpt x. Did you mean --output?"),
        (["--train", "3", "--output", "x"], "--train 3. Did you mean --train_images?"),
        (["--train_images", "three", "--output", "x"], "--train_images: three is not a whole number from 1 up."),
        (["--val_images", "-1", "--output", "x"], "--val_images: -1 is not a whole number from 1 up."),
        (["--dialect", "tem", "--output", "x"], "choose from 'plain', 'team'"),
        (["--look", "shift", "--output", "x"], "choose from 'plain', 'shifted'"),
        (["--wrong_answers", "30", "--output", "x"], "--wrong_answers: 30 is not a number from 0 to 1."),
        (["--wrong_answers", "nan", "--output", "x"], "--wrong_answers: nan is not a number from 0 to 1."),
        (["--wrong_answers", "some", "--output", "x"], "--wrong_answers: some is not a number from 0 to 1."),
        ([], "--output must be given."),
    ],
)
def test_workbench_refuses_in_one_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refusal(capsys, "workbench", *arguments)
    assert not list(tmp_path.iterdir())


def test_workbench_overwrites_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert "exists and is not empty" in refusal(capsys, "workbench", "--output", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["fit", "--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "vlm_lit", *words], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert ended.stderr == ""
    assert ended.returncode == 128 + signal.SIGPIPE


@pytest.mark.slow(but_first=True)
@pytest.mark.parametrize(("before", "set_aside"), [("", "True"), ("import lightning", "False")])
def test_no_circles_are_looked_for_while_libraries_are_imported(before: str, set_aside: str) -> None:
    # Where libraries are there, other objects may be, which are to go again.
    searches, *after = run("-c", f"{before}\n{SEARCHES}").stdout.split()
    assert after == ["True", set_aside]
    assert before or searches == "0"
