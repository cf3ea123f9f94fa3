"""Checks of a refusal as seen from outside: exit status, one paragraph, nothing written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from vlm_lit.cli import main

LONGEST = 600


def run_dir(config: Path) -> Path:
    """The run directory that a config names."""
    return Path(yaml.safe_load(config.read_text())["run_dir"])


def edited(config: Path, changes: Mapping[str, object]) -> Path:
    """`config` with dotted keys set; a key whose value is `...` is taken out."""
    settings = yaml.safe_load(config.read_text())
    for key, value in changes.items():
        *path, last = key.split(".")
        here = settings
        for name in path:
            here = here[name]
        if value is ...:
            del here[last]
        else:
            here[last] = value
    config.write_text(yaml.safe_dump(settings))
    return config


def to_stderr() -> None:
    """Lightning's loggers keep the stderr of the test that imported it; give them this one's."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.stream = sys.stderr  # `setStream` would flush the old one, which is closed


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one error line of a command that has to fail with status 2."""
    to_stderr()
    capsys.readouterr()
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    errors = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert shown.endswith(errors[0] + "\n")
    assert len(errors[0]) < LONGEST
    return errors[0]


def refused(capsys: pytest.CaptureFixture[str], config: Path, *more: str) -> str:
    """The one error line of a `fit` that has to be refused before it writes anything."""
    error = refusal(capsys, "fit", "--config", str(config), *more)
    assert not run_dir(config).exists()
    return error
