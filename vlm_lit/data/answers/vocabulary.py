"""Answer vocabulary of a classifier: the answers that it chooses from, in the order of its head's rows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.files.strict_json import decode, read_json
from vlm_lit.files.whole import write_whole
from vlm_lit.vqa.normalize import one_line, vqa_normalise

_FORMS: Final = (
    "Give a run's answers.json, a JSON list of texts, a checkpoint's config.json with id2label, or a text file with an "
    "answer a line (.txt)."
)
_NO_LINE_OF_TEXT: Final = re.compile(r"""\s*[\[{]\s*["'\[{]|.*\t""")
"""A line of JSON, as BEiT-3's answer2label.txt has them, or of a table."""


@dataclass(frozen=True)
class AnswerVocabulary:
    """The N answers that a classifier chooses from; the position of each is its row of the head.

    Args:
        answers: the answers, none of them twice. One may be empty: `a` normalised by the VQA rules is.
        normalized: whether they are normalised by the VQA rules, so that a text is looked up normalised.

    Raises:
        ConfigError: fewer than two answers, or one that stands there twice.
    """

    answers: tuple[str, ...]
    normalized: bool

    def __post_init__(self) -> None:
        if len(self.answers) < 2:
            raise ConfigError(f"The answer vocabulary has {len(self.answers)} answers; to choose takes two at least.")
        if len(self._places) < len(self.answers):
            twice = next(answer for place, answer in enumerate(self.answers) if self._places[answer] != place)
            raise ConfigError(f"The answer {twice!r} stands in the answer vocabulary twice. Keep one of them.")

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {answer: place for place, answer in enumerate(self.answers)}

    @cached_property
    def alike(self) -> Mapping[str, Sequence[int]]:
        """By each normalised answer the positions of the answers that it is the normal form of."""
        found: dict[str, list[int]] = {}
        for place, answer in enumerate(self.answers):
            found.setdefault(vqa_normalise(answer), []).append(place)
        return found

    def index(self, text: str) -> int | None:
        """The position of the answer that is written so; None for a text that is no answer of it. See `spelled`."""
        return self._places.get(text)

    def spelled(self, text: str) -> str:
        """A text in the vocabulary's spelling: normalised where its answers are, on one line in any case."""
        return vqa_normalise(one_line(text)) if self.normalized else one_line(text)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    @property
    def _text(self) -> str:
        return json.dumps({"normalized": self.normalized, "answers": self.answers}, ensure_ascii=False, indent=0) + "\n"

    def write(self, path: Path) -> None:
        """Write it as a JSON file, whole."""
        write_whole(path, self._text)

    @classmethod
    def read(cls, path: Path) -> AnswerVocabulary:
        """A vocabulary from what `write` wrote, a JSON list, a checkpoint's config.json, or lines of text (`.txt`, or a
        name without an ending).

        What does not say whether its answers are normalised is taken for normalised where each of them is.

        Raises:
            RecordError: it cannot be read, or holds no vocabulary.
        """
        ending = path.suffix.lower()
        if ending in ("", ".txt"):
            return _made(_lines(path), path)
        if ending != ".json":
            raise _unreadable(f"files that end in {path.suffix} are not read as an answer vocabulary", _FORMS, path)
        content = read_json(path)
        if isinstance(content, dict) and isinstance(content.get("id2label"), dict):
            return cls.of_labels(content["id2label"], path)
        normalized = content.get("normalized") if isinstance(content, dict) else None
        answers = content.get("answers") if isinstance(content, dict) else content
        if not isinstance(answers, list) or not isinstance(normalized, bool | None):
            raise _unreadable("it holds no answer vocabulary", _FORMS, path)
        _refuse_unfound(answers, path)
        return _made(answers, path, normalized)

    @classmethod
    def of_labels(cls, labels: Mapping[int, str] | Mapping[str, str], file: Path | str) -> AnswerVocabulary:
        """The vocabulary in the `id2label` of a checkpoint's config.

        Args:
            labels: its answers by their positions.
            file: the config, for errors.

        Raises:
            RecordError: positions are missing, or the labels are those that transformers gives where nobody named any.
        """
        by_place = {str(place): label for place, label in labels.items()}
        missing = next((place for place in range(len(by_place)) if str(place) not in by_place), None)
        if missing is not None:
            remedy = "Number the answers from 0 on, without a gap."
            raise _unreadable(f"id2label has {len(by_place)} answers and none under {missing}", remedy, file)
        answers = [by_place[str(place)] for place in range(len(by_place))]
        if all(answer == f"LABEL_{place}" for place, answer in enumerate(answers)):
            raise _unreadable("its id2label names no answers (LABEL_0, LABEL_1, ...)", _FORMS, file)
        return _made(answers, file)


def _made(answers: Sequence[object], file: Path | str, normalized: bool | None = None) -> AnswerVocabulary:
    texts = [answer for answer in answers if isinstance(answer, str)]
    if len(texts) < len(answers):
        place, other = next((i, a) for i, a in enumerate(answers) if not isinstance(a, str))
        raise _unreadable(f"answer {place}, counted from 0, is {other!r}, no text", "Write it in quotes.", file)
    if normalized is None:
        normalized = all(vqa_normalise(text) == text for text in texts)
    try:
        return AnswerVocabulary(tuple(texts), normalized)
    except ConfigError as error:
        raise _unreadable(str(error).rstrip("."), "Correct the list of answers.", file) from None


def _refuse_unfound(answers: Sequence[object], file: Path) -> None:
    """Refuse an answer that none of a record's is looked up as: these stand on one line, without blanks around them."""
    for place, answer in enumerate(answers):
        if isinstance(answer, str) and one_line(answer) != answer:
            problem = f"answer {place}, counted from 0, is {answer!r}, with blanks around it, a tab or a line break"
            raise _unreadable(problem, f"Write {one_line(answer)!r}.", file)


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(f"cannot be read ({error.strerror})", "Correct the path.", path) from error
    lines = [line.strip() for line in decode(data, path).rstrip().split("\n")]
    if "" in lines:
        remedy = "Take the line out. An empty answer is written in JSON."
        raise _unreadable(f"line {lines.index('') + 1} is empty", remedy, path)
    other = next((number for number, line in enumerate(lines, start=1) if _NO_LINE_OF_TEXT.match(line)), None)
    if other is not None or all(len(line) > 1 and line[0] == line[-1] == '"' for line in lines):
        written = "JSON, or a row of a table" if other is not None else "in quotes"
        problem = f"line {other or 1} is {written}, and all of it would be the answer: {lines[(other or 1) - 1][:60]!r}"
        raise _unreadable(problem, "Write the answers alone, one a line, or a JSON list of them (.json).", path)
    return lines


def _unreadable(problem: str, remedy: str, file: Path | str) -> RecordError:
    return RecordError(problem, remedy=remedy, file=file, code="vocabulary")
