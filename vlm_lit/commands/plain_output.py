"""The door to the terminal: whatever is printed, nothing in it steers the terminal but bars and colours.

Names of files, groups and records, and what models answer, come from strangers: an escape sequence in one of them could
rename a window, write to the clipboard, or hide lines. What a bar or a colour needs passes; the rest is written out.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any, Final, TextIO, cast

from vlm_lit.errors import printable

# Colours, but not the one that hides text.
_COLOURS: Final = r"\x1b\[(?!(?:[0-9]*;)*0*8[;m])[0-9;]*m"
# As well one line up, one line cleared, the cursor hidden and shown: what tqdm and our own bars write.
_STEPS: Final = rf"\r|\n|{_COLOURS}|\x1b\[[0-9]*A|\x1b\[2?K|\x1b\[\?25[lh]"
_OF_BARS: Final = re.compile(rf"({_STEPS})")
_OF_WORDS: Final = re.compile(rf"({_COLOURS})")
_OF_FILES: Final = re.compile(r"(^\r)")
_A_BAR: Final = re.compile(rf"\r|(?:{_STEPS})*\Z")
"""How a text of a bar begins, or is all: the cursor moves between texts, never within words."""


class PlainStream:
    """A stream to which text goes with control characters written out.

    Args:
        wrapped: where it goes. The library rich, whose bars need more sequences and whose texts hold none of data,
            writes there itself.
    """

    def __init__(self, wrapped: TextIO) -> None:
        self.wrapped = self.rich_proxied_file = wrapped  # a name of rich
        self._shown = wrapped.isatty()

    def write(self, text: str) -> int:
        """Write a text, and say how much of it was taken: all."""
        if not text.isprintable():
            passes = _OF_FILES if not self._shown else _OF_BARS if _A_BAR.match(text) else _OF_WORDS
            pieces = passes.split(text)  # every second one is a separator
            text = "".join(p if i % 2 else printable(p, lines=True) for i, p in enumerate(pieces))
        self.wrapped.write(text)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self.wrapped, name)


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Within, `sys.stderr` is such a stream, and `sys.stdout` where it is a terminal: a program reads it elsewhere."""
    out, err = sys.stdout, sys.stderr
    sys.stderr = cast(TextIO, PlainStream(err))
    if out is not None and out.isatty():
        sys.stdout = cast(TextIO, PlainStream(out))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
