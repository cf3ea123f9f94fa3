"""Tests of what wins: an option on the command line over every file, of files the later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from vlm_lit.cli import main
from vlm_lit.commands.config_files import files_first

Config = Callable[..., Path]


@pytest.mark.parametrize(
    ("words", "ordered"),
    [
        ("--config a.yaml --x 1 --config b.yaml", "--config a.yaml --config b.yaml --x 1"),
        ("--overwrite --x=1 --config=b.yaml -c d.yaml", "--config=b.yaml -c d.yaml --overwrite --x=1"),
        ("--trainer.max_steps -1 --trainer t.yaml", "--trainer t.yaml --trainer.max_steps -1"),
        ("--y 2 --model=m.yaml --data d.yml --z", "--model=m.yaml --data d.yml --y 2 --z"),
        ("--model.seed 1 --model ClassifierModule --config", "--config --model.seed 1 --model ClassifierModule"),
    ],
)
def test_files_stand_before_options(words: str, ordered: str) -> None:
    assert files_first(words.split()) == ordered.split()


def test_an_option_wins_over_a_file_that_is_named_behind_it(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "o.yaml").write_text("model:\n  init_args:\n    learning_rate: 0.01\n    max_new_tokens: 3\n")
    (tmp_path / "t.yaml").write_text("max_epochs: 3\nmin_steps: 4\n")
    typed = ("--trainer.max_epochs", "2", "--model.learning_rate=0.005")
    files = ("--trainer", str(tmp_path / "t.yaml"), "--config", str(tmp_path / "o.yaml"))
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(config()), *typed, *files, "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["trainer"]["max_epochs"], shown["trainer"]["min_steps"]) == (2, 4)
    assert shown["model"]["init_args"]["learning_rate"] == 0.005
    assert shown["model"]["init_args"]["max_new_tokens"] == 3
