"""Negative controls of the properties over drawn inputs: with one guard taken away, each of them finds something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given, seed
from hypothesis import strategies as st

from tests.data import test_masking
from tests.support.drawn_inputs import KINDS, drawing
from vlm_lit.data.conversations import turns
from vlm_lit.data.images import images
from vlm_lit.data.rows import masking


class NeverRaisedError(Exception):
    """What a guard waits for that was taken away."""


def words_as_they_are(_record: object, value: object, _key: str) -> object:
    return value


# What is put in the place of a guard: the module's name for it, and by which kind of input that must be found.
GUARDS: dict[str, tuple[object, str, object]] = {
    "pictures": (images, "_broken", lambda error: error),  # an error of Pillow's comes out as it is
    "records": (turns, "words", words_as_they_are),  # anything passes for words
    "configs": (yaml, "YAMLError", NeverRaisedError),  # what is no YAML comes out as it is
}


@pytest.mark.parametrize("kind", GUARDS)
def test_a_guard_that_is_missing_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, look = KINDS[kind]
    monkeypatch.setattr(*GUARDS[kind])
    assert finds(look, drawn)


def test_control_strings_that_are_not_escaped_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    check = test_masking.test_nothing_typed_changes_what_is_supervised.hypothesis.inner_test  # type: ignore[attr-defined]
    monkeypatch.setattr(masking, "escape", lambda said, _: (list(said), {}))
    assert finds(check, st.data())


def test_a_property_that_holds_finds_nothing() -> None:
    assert not finds(lambda _: None, st.integers(), count=20)


def finds(check: Callable[[Any], None], drawn: st.SearchStrategy[Any], count: int = 500) -> bool:
    """Whether a property breaks for one of so many inputs."""

    @seed(20261129)
    @drawing(count)
    @given(drawn)
    def run(value: Any) -> None:
        check(value)

    try:
        run()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return True
    return False
