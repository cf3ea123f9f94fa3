"""Tests of the README: its commands and snippets run as printed, one after another.

Each hub id is answered from a local cache of the hub that holds a tiny model of its family; there is no network. The
only thing added is `--trainer.accelerator cpu`: the shipped configs are for a GPU.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import small_data, tiny_models

_ROOT = Path(__file__).parent.parent
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_HUB = {
    "llava-hf/llava-1.5-7b-hf": "llava",
    "HuggingFaceTB/SmolVLM-Instruct": "smolvlm",
    "Qwen/Qwen2-VL-7B-Instruct": "qwen2_vl",
}
_TRAINS = ("fit", "validate", "test", "predict", "inspect", "verify", "cache")

pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    """The README's fenced blocks in a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", _README, re.DOTALL)


def commands(block: str) -> Iterator[list[str]]:
    """The commands of a block, continued lines joined and comments left out."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> Path:
    """A checkout with the data that a reader has, and a hub cache of tiny models beside it."""
    home = tmp_path_factory.mktemp("reader")
    desk = home / "checkout"
    desk.mkdir()
    for name in ("configs", "scripts", "vlm_lit"):
        (desk / name).symlink_to(_ROOT / name)
    for part in ("train", "val", "test"):
        small_data.write_conversations(desk / "data", 6, turns=1, prefix=part)
    for model_id, family in _HUB.items():
        cached = home / "hub" / f"models--{model_id.replace('/', '--')}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("0" * 40)
        (cached / "snapshots").mkdir()
        (cached / "snapshots" / ("0" * 40)).symlink_to(folders[family])
    (desk / "mine.yaml").write_text(blocks("yaml")[0])
    return desk


def run(desk: Path, words: list[str]) -> None:
    """One command as a process, which succeeds."""
    environment = os.environ | {"HF_HUB_CACHE": str(desk.parent / "hub"), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = str(_ROOT)
    done = subprocess.run(words, cwd=desk, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def easy_vqa(folder: Path) -> None:
    """What a clone of github.com/vzhou842/easy-VQA holds, with few images."""
    for part, images in (("train", 206), ("test", 4)):
        (folder / "data" / part / "images").mkdir(parents=True)
        rows = []
        for i in range(images):
            tiny_models.picture(i).save(folder / "data" / part / "images" / f"{i}.png")
            rows += [["what shape is there?", ("circle", "triangle")[i % 2], i], ["is it red?", "yes", i]]
        (folder / "data" / part / "questions.json").write_text(json.dumps(rows))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("block", blocks("bash"), ids=lambda block: shlex.split(block.splitlines()[0])[-1])
def test_commands_run_as_printed(desk: Path, block: str) -> None:
    for words in commands(block):
        if words[:2] == ["git", "clone"]:
            easy_vqa(desk / Path(words[2]).name)
            continue
        assert words[0] == "python", words
        trains = words[1:3] == ["-m", "vlm_lit"] and words[3] in _TRAINS
        run(desk, [sys.executable, *words[1:], *(["--trainer.accelerator", "cpu"] if trains else [])])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("snippet", blocks("python"), ids=lambda snippet: snippet.splitlines()[0])
def test_snippets_run_as_printed(desk: Path, snippet: str) -> None:
    run(desk, [sys.executable, "-c", snippet])


def test_every_verb_is_in_the_table() -> None:
    from vlm_lit.cli import VERBS

    (table,) = re.findall(r"\| verb \|.*?\n\n", _README, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:] if line))) == set(
        VERBS
    )


def test_the_files_that_it_names_are_there() -> None:
    named = re.findall(r"\]\(([\w./-]+)\)", _README) + re.findall(
        r"`((?:tests|configs|scripts|vlm_lit)/[\w./-]*)`", _README
    )
    assert [name for name in named if not (_ROOT / name).exists()] == []
