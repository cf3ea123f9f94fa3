"""MMMU accuracy, over questions with options and open questions.

Source of the definition: MMMU-Benchmark/MMMU, `mmmu/utils/eval_utils.py`, snapshot bb0b95a9: the mean over questions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

from vlm_lit.metrics.multiple_choice import MultipleChoiceAccuracy
from vlm_lit.metrics.open_answers import open_answer_score
from vlm_lit.metrics.rules import Answer, Counts

QUESTION_TYPE: Final = "question_type"
"""The group that tells `multiple-choice` from `open` questions, named as the data set's column."""

_ID: Final = re.compile(r"[a-z]+_(\w+)_\d+")
_SUBJECTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Art and Design": "Art, Art_Theory, Design, Music",
        "Business": "Accounting, Economics, Finance, Manage, Marketing",
        "Science": "Biology, Chemistry, Geography, Math, Physics",
        "Health and Medicine": "Basic_Medical_Science, Clinical_Medicine, Diagnostics_and_Laboratory_Medicine, "
        "Pharmacy, Public_Health",
        "Humanities and Social Science": "History, Literature, Sociology, Psychology",
        "Tech and Engineering": "Agriculture, Architecture_and_Engineering, Computer_Science, Electronics, "
        "Energy_and_Power, Materials, Mechanical_Engineering",
    }
)
DISCIPLINES: Final[Mapping[str, str]] = MappingProxyType(
    {subject: discipline for discipline, subjects in _SUBJECTS.items() for subject in subjects.split(", ")}
)
"""The discipline of each of the thirty subjects."""


@dataclass(frozen=True)
class MMMUAccuracy(MultipleChoiceAccuracy):
    """The share of MMMU's questions answered right: options by letter, open questions by `open_answer_score`.

    A question without choices is an open one, unless its group `question_type` is `multiple-choice`. Items under the
    data set's own ids (`validation_Accounting_1`) are in the groups `subject` and `discipline` as well.

    Args:
        extractor: as for `multiple_choice`; MMMU's own is `mmmu`.
        fallback: what a choice counts that means no letter: `wrong`, or `random`, as MMMU's evaluator has it.
        seed: what the draws follow from.

    Raises:
        ConfigError: an option is unknown, or there is a seed although nothing is drawn.
    """

    title: ClassVar[str] = "mmmu"

    def counts(self, answer: Answer) -> Counts:
        """Right and unparsed, each 0 or 1; an open question's reply is never unparsed."""
        if _has_options(answer):
            return super().counts(answer)
        return open_answer_score(answer.prediction, answer.references), 0.0

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """Letters; of an open question the texts, a right reply as the first reference."""
        if _has_options(answer):
            return super().compared(answer)
        right = open_answer_score(answer.prediction, answer.references) == 1
        return answer.references[0] if right else answer.prediction, answer.references

    def groups(self, answer: Answer) -> Mapping[str, str]:
        """The item's groups, its subject and that one's discipline."""
        found = _ID.fullmatch(answer.id)
        if found is None or found[1] not in DISCIPLINES:
            return answer.groups
        return {"discipline": DISCIPLINES[found[1]], "subject": found[1], **answer.groups}


def _has_options(answer: Answer) -> bool:
    return bool(answer.choices) or answer.groups.get(QUESTION_TYPE) == "multiple-choice"
