"""Refusal of answers that come with a score each, in place of what every person said: no metric could judge by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vlm_lit.data.conversations.refusals import refusal
from vlm_lit.schema import Record

_BESIDE: Final = ("weights", "scores", "answer_weights", "answer_scores")
"""Keys under which a record has a score for each of its answers."""


def refuse_soft_scores(record: Record, key: str, value: object) -> None:
    """Refuse answers with scores, within them or in a list beside them; each answer would count as wholly right.

    Args:
        record: the record.
        key: its key that holds the answers.
        value: what that holds.

    Raises:
        RecordError: the answers have scores, and not all the same.
    """
    if isinstance(value, Mapping) and {"ids", "weights"} <= value.keys():
        problem = (
            f"{key} holds ids and weights, ViLT's answers with their soft scores, as Graphcore/vqa has them; what each "
            "of ten people answered cannot be told from these"
        )
        remedy = (
            "Take VQA v2's own files with the ten answers: path names the questions "
            "(v2_OpenEnded_mscoco_train2014_questions.json), annotations the answers "
            "(v2_mscoco_train2014_annotations.json). ClassifierDataModule makes the scores (targets: vilt)."
        )
        raise refusal(record, problem, remedy=remedy, code="soft_scores")
    beside = next((name for name in _BESIDE if _differ(value, record.fields.get(name))), None)
    if beside is not None:
        problem = f"{beside} gives each of its {key} a score, which is not read"
        remedy = (
            "Write each answer as often as people gave it: ClassifierDataModule makes the scores (targets: vilt). "
            f"Or name {beside} in ignore_keys, to take every answer for right."
        )
        raise refusal(record, problem, remedy=remedy, code="soft_scores")


def _differ(answers: object, scores: object) -> bool:
    """Whether these are as many numbers as there are answers, and not all the same."""
    if not isinstance(answers, list | tuple) or not isinstance(scores, list | tuple) or len(answers) != len(scores):
        return False
    numbers = all(isinstance(score, int | float) and not isinstance(score, bool) for score in scores)
    return numbers and any(score != scores[0] for score in scores)
