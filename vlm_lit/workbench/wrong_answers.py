"""Training answers that are wrong on purpose, and what they say instead.

Symmetric label noise: a wrong answer is drawn evenly from the other answers that the same kind of question has in the
data, so it is one that could have been right of another picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from vlm_lit.errors import VlmLitError
from vlm_lit.workbench.questions import QA
from vlm_lit.workbench.world import pick


def with_wrong_answers(asked: Sequence[QA], share: float, rng: Random) -> list[QA]:
    """`asked`, in its order, with `share` of its answers (rounded to a whole number) replaced by other valid ones.

    Raises:
        VlmLitError: so many have no other valid answer, since all questions of their kind have the same one.
    """
    of_kind = zip(asked, _answers_of_kind(asked), strict=True)
    others = [[answer for answer in answers if answer != qa.answer] for qa, answers in of_kind]
    replaceable = [place for place, found in enumerate(others) if found]
    wanted = round(share * len(asked))
    if wanted > len(replaceable):
        raise VlmLitError(
            f"wrong_answers is {share}, but only {len(replaceable)} of {len(asked)} training answers have another "
            "valid one in the data. Ask for fewer, or for more --train_images."
        )
    changed = list(asked)
    for place in rng.sample(replaceable, wanted):
        changed[place] = replace(asked[place], answer=pick(rng, others[place]))
    return changed


def _answers_of_kind(asked: Sequence[QA]) -> list[list[str]]:
    """For each question the different answers that its kind has, sorted so that no order of a set is drawn from."""
    found: dict[tuple[str, str], set[str]] = {}
    for qa in asked:
        found.setdefault(_kind(qa), set()).add(qa.answer)
    ordered = {kind: sorted(answers) for kind, answers in found.items()}
    return [ordered[_kind(qa)] for qa in asked]


def _kind(qa: QA) -> tuple[str, str]:
    # The answer type as well: where something is has answers in words, in numbers, and yes or no.
    return qa.question_type, qa.answer_type
