"""File of sampled answers: each is kept as soon as it is there, so that no interruption loses it.

A line an answer; the first line says what the answers follow from. Every process of a run over several ranks has a file
of its own beside the first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from typing import Final

from vlm_lit.errors import ConfigError
from vlm_lit.files.whole import write_whole


@dataclass(frozen=True, kw_only=True)
class SampledAnswer:
    """An answer that a model gave to a record's question.

    `sample` is its number, counted from 0. `prompt` names what was asked, words and pictures. `unfinished` says that
    it was cut by the limit of tokens.
    """

    id: str
    sample: int
    prompt: str
    answer: str
    unfinished: bool = False


_KINDS: Final = {"id": str, "sample": int, "prompt": str, "answer": str, "unfinished": bool}


class AnswersFile:
    """The answers that were sampled for one file of pairs.

    Args:
        path: of the first process's file.
        identity: all that an answer follows from besides its question, by the names of the settings.
    """

    def __init__(self, path: Path, identity: Mapping[str, object]) -> None:
        self.path = path
        self.identity: dict[str, object] = json.loads(json.dumps(identity, default=str))

    def read(self) -> list[SampledAnswer]:
        """All answers that are kept, of every process; none where there is no file.

        Raises:
            ConfigError: they follow from something else, or a line is not one of ours.
        """
        files = [self.path, *sorted(self.path.parent.glob(f"{escape(self.path.stem)}.rank*{self.path.suffix}"))]
        return [answer for file in files if file.is_file() for answer in self._read(file)]

    def writer(self, rank: int = 0) -> AnswersWriter:
        """What adds this process's answers."""
        file = self.path if rank == 0 else self.path.with_suffix(f".rank{rank}{self.path.suffix}")
        if not file.is_file():
            write_whole(file, json.dumps({"sampled_with": self.identity}) + "\n")
        return AnswersWriter(file)

    def _read(self, file: Path) -> Iterator[SampledAnswer]:
        # A kill may have cut the last line: what has no end of line is no answer.
        try:
            first, *lines = file.read_text(encoding="utf-8").split("\n")[:-1] or [""]
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file} is no text in UTF-8. Remove the file to sample again.") from error
        self._check(file, first)
        for number, line in enumerate(lines, start=2):
            try:
                answer = SampledAnswer(**json.loads(line))
                if not all(isinstance(getattr(answer, name), kind) for name, kind in _KINDS.items()):
                    raise TypeError("a value of another kind")
                yield answer
            except (ValueError, TypeError, RecursionError) as error:
                raise ConfigError(
                    f"{file}, line {number} is no sampled answer. Remove the file to sample again."
                ) from error

    def _check(self, file: Path, first: str) -> None:
        try:
            kept = dict(json.loads(first)["sampled_with"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"{file} holds no sampled answers. Name another --output, or remove it.") from error
        names = dict.fromkeys((*self.identity, *kept))
        different = [name for name in names if kept.get(name) != self.identity.get(name)]
        if different:
            changes = ", ".join(f"{name} {kept.get(name)} (now {self.identity.get(name)})" for name in different)
            raise ConfigError(
                f"The answers in {file} were sampled with another {changes}. Take this back to go on with them, name "
                "another --output, or remove the file."
            )


class AnswersWriter:
    """What adds answers to one process's file.

    Args:
        path: the file, with its first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _end_last_line(path)

    def add(self, answers: Sequence[SampledAnswer]) -> None:
        """Write some answers to the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers)
            file.flush()
            os.fsync(file.fileno())


def _end_last_line(path: Path) -> None:
    """Take off a last line that a kill has cut."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
