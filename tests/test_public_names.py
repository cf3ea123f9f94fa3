"""Tests of `import vlm_lit`: it gives a notebook its names without the seconds that torch takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vlm_lit


@pytest.mark.slow
def test_import_loads_nothing_heavy_and_knows_its_names() -> None:
    code = (
        "import sys, vlm_lit; assert set(vlm_lit.__all__) <= set(dir(vlm_lit));"
        "heavy = {'torch', 'lightning', 'transformers', 'jsonargparse'} & set(sys.modules); assert not heavy, heavy;"
        "from vlm_lit import SupervisedModule; assert SupervisedModule.__module__ == 'vlm_lit.training.supervised'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", vlm_lit.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(vlm_lit, name).__name__ == name


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Trainr'"):
        vlm_lit.Trainr  # noqa: B018
