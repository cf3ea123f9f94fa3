"""Comparison of functions by their instructions: whether a library's code is still the one that ours stands in for."""

from __future__ import annotations

import inspect
from types import CodeType


def same_instructions(one: object, other: object, file: str | None) -> bool:
    """Whether two functions are the same instructions, and the other one still is what its library's file says.

    Args:
        one: a function, or anything else, which is none.
        other: the function that ours was written after.
        file: where that stands. Something may have been put in its place.
    """
    mine, theirs = _code(one), _code(other)
    return mine is not None and theirs is not None and theirs.co_filename == file and _told(mine) == _told(theirs)


def _code(function: object) -> CodeType | None:
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return code if isinstance(code, CodeType) else None


def _told(code: CodeType) -> tuple[object, ...]:
    constants = (constant for constant in code.co_consts if not isinstance(constant, str))  # a docstring among them
    return code.co_code, code.co_names, code.co_varnames, tuple(constants)
