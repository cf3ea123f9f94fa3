"""Building of an answer vocabulary from the answers of training records.

The published vocabulary of ViLT for VQA v2 (3,129 answers) is `{source: train_and_val, least_count: 9}`: the answers
that VQA calls `multiple_choice_answer`, normalised, in the order in which they first occur. Source of the behaviour:
dandelin/ViLT, `vilt/utils/write_vqa.py`, snapshot 762fd39. Its `normalize_word` gives what `vqa_normalise` gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from vlm_lit.data.answers.vocabulary import AnswerVocabulary
from vlm_lit.data.conversations.conversations import is_blank
from vlm_lit.errors import ConfigError
from vlm_lit.schema import Conversation
from vlm_lit.vqa.normalize import one_line, vqa_normalise

VocabularySource = Literal["train", "train_and_val"]
VocabularyNormalize = Literal["vqa", "none"]


@dataclass(frozen=True, kw_only=True)
class VocabularySettings:
    """Which answers a classifier chooses from; by default every answer of the training part.

    Args:
        file: a file to take them from, in its order: a run's answers.json, a JSON list, a checkpoint's config.json, or
            a text file (.txt) with an answer a line. null builds them from the records.
        least_count: how many records must have an answer, counted by their most common answer.
        most: how many answers, the most frequent ones; of equals the one that occurs first.
        source: the parts whose records are counted. `train_and_val` is what published ViLT numbers were made with: it
            looks at the answers of the part that the run is validated on.
        normalize: `vqa` by the official VQA rules (lower case, digits for numbers, no articles), or `none`.

    Raises:
        ConfigError: settings that contradict each other, or a number below 1.
    """

    file: str | None = None
    least_count: int | None = None
    most: int | None = None
    source: VocabularySource = "train"
    normalize: VocabularyNormalize = "vqa"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("source", self.source, VocabularySource), ("normalize", self.normalize, VocabularyNormalize),
        ):  # fmt: skip
            if value not in get_args(known):
                raise ConfigError(f"{name} is {value!r}; it must be {' or '.join(get_args(known))}.")
        for name, number in (("least_count", self.least_count), ("most", self.most)):
            if number is not None and number < 1:
                raise ConfigError(f"{name} is {number}; it must be at least 1.")
        given = [one.name for one in fields(self) if one.name != "file" and getattr(self, one.name) != one.default]
        if self.file is not None and given:
            raise ConfigError(
                f"file is {self.file}, so {' and '.join(given)} would do nothing: that is for a vocabulary built from "
                "the records. Leave one out."
            )


def build_vocabulary(answers: Iterable[str | None], settings: VocabularySettings) -> AnswerVocabulary:
    """The vocabulary that settings ask for.

    Args:
        answers: `answer_of` each record of the parts that `settings.source` names, in order, train before val; not
            looked at where a file is given.
        settings: what is asked for.

    Raises:
        ConfigError: fewer than two answers are left.
        RecordError: the file holds no vocabulary.
    """
    if settings.file is not None:
        return AnswerVocabulary.read(Path(settings.file).expanduser())
    normalized = settings.normalize == "vqa"
    counts = Counter[str]()  # in the order of first occurrence
    for answer in answers:
        if answer is not None:
            counts[vqa_normalise(one_line(answer)) if normalized else one_line(answer)] += 1
    kept = {answer: n for answer, n in counts.items() if n >= (settings.least_count or 1)}
    if settings.most is not None:
        frequent = set(sorted(kept, key=lambda answer: -kept[answer])[: settings.most])  # stable: of equals the first
        kept = {answer: n for answer, n in kept.items() if answer in frequent}
    if len(kept) < 2:
        raise _too_few(counts, len(kept), settings)
    return AnswerVocabulary(tuple(kept), normalized)


def answer_of(conversation: Conversation) -> str | None:
    """The answer that a record is trained on: its `multiple_choice_answer`, else its most common one; None without."""
    last = conversation.turns[-1]
    return last.text if last.role == "assistant" and not is_blank(last.text) else None


def _too_few(counts: Counter[str], kept: int, settings: VocabularySettings) -> ConfigError:
    common = ", ".join(f"{answer!r} {n} times" for answer, n in counts.most_common(3)) or "none at all"
    return ConfigError(
        f"The answer vocabulary has {kept} answers with least_count {settings.least_count or 1} and most "
        f"{settings.most}; to choose takes two at least. The records' most common answers: {common}. Lower least_count "
        "or raise most."
    )
