"""POPE, a test of object hallucination: accuracy, precision, recall and F1 of `yes`.

Source of the definition: RUCAIBox/POPE, `evaluate.py`, snapshot 3df3ba1b (LLaVA's `eval_pope` parses alike). The other
parsers: lmms-eval 75571cfe and VLMEvalKit e8e78f05.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.rules import Answer, Counts, Rule, check_choice, need_references, ratio
from vlm_lit.vqa.normalize import without_punctuation

Parser = Literal["official", "exact", "yesno_word"]

CATEGORY: Final = "category"
"""The group of a question's category: random, popular or adversarial."""


def pope_answer(prediction: str, *, parser: Parser = "official") -> bool | None:
    """Reads an answer: True for yes, False for no, None where the parser sees neither.

    Args:
        prediction: the model's answer.
        parser: `official` sees no in the words `No`, `no` and `not` before the first full stop, and yes in everything
            else: in `NO`, `no!`, `isn't` and an empty answer too. `exact` (lmms-eval) takes the whole answer, blanks
            at its ends and case aside. `yesno_word` (VLMEvalKit) takes whichever of the two words occurs alone.

    Raises:
        ConfigError: the parser is unknown.
    """
    check_choice("pope", "parser", parser, Parser)
    return _PARSERS[parser](prediction)


def _official(text: str) -> bool:
    # Only the blank separates words, so a tab or a line break stays within one.
    words = text.partition(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"}.intersection(words)


def _exact(text: str) -> bool | None:
    return {"yes": True, "no": False}.get(text.lower().strip())


def _yesno_word(text: str) -> bool | None:
    words = without_punctuation(text.lower()).split()
    return ("yes" in words) if ("yes" in words) != ("no" in words) else None


_PARSERS: Final[dict[str, Callable[[str], bool | None]]] = {
    "official": _official,
    "exact": _exact,
    "yesno_word": _yesno_word,
}


@dataclass(frozen=True)
class POPE(Rule):
    """Accuracy, precision, recall and F1 of `yes`, and the share of answers that say it; overall and per group.

    `overall` is the accuracy, the mean of the items' scores. With the group `category`, `f1/mean_over_category` is the
    plain mean of the categories' F1. What would be a division by zero is 0.

    Args:
        parser: see `pope_answer`. An answer that `exact` cannot read is wrong, but no missed yes (lmms-eval);
            one that `yesno_word` cannot read is a missed yes where yes was right (VLMEvalKit).

    Raises:
        ConfigError: the parser is unknown.
    """

    title: ClassVar[str] = "pope"
    columns: ClassVar[int] = 5

    parser: Parser = "official"

    def counts(self, answer: Answer) -> Counts:
        """Right, true yes, said yes, yes missed, unparsed: each 0 or 1."""
        truth, said = _truth(answer.references), pope_answer(answer.prediction, parser=self.parser)
        missed = truth and (said is False or (said is None and self.parser == "yesno_word"))
        flags = (said is truth, truth and said is True, said is True, missed, said is None)
        return tuple(map(float, flags))

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """Yes or no; a prediction read as neither, as it is."""
        words = {True: "yes", False: "no", None: answer.prediction}
        return words[pope_answer(answer.prediction, parser=self.parser)], [words[_truth(answer.references)]]

    def values(self, sums: Sequence[float], n: int) -> dict[str, float]:
        """The accuracy as `overall`, then the details."""
        right, true_yes, said_yes, missed, unparsed = sums
        precision, recall = ratio(true_yes, said_yes), ratio(true_yes, true_yes + missed)
        found = {
            "overall": right / n,
            "accuracy": right / n,
            "precision": precision,
            "recall": recall,
            "f1": ratio(2 * precision * recall, precision + recall),
            "yes_ratio": said_yes / n,
        }
        return found if self.parser == "official" else {**found, "unparsed": unparsed / n}

    def unparsed(self, sums: Sequence[float]) -> int:
        """How many answers were read as neither."""
        return int(sums[-1])

    def across(self, breakdowns: Iterable[tuple[str, Mapping[str, float]]]) -> dict[str, float]:
        """The mean F1 of the categories, which papers call the average."""
        scores = [values["f1"] for group, values in breakdowns if group == CATEGORY]
        return {f"f1/mean_over_{CATEGORY}": math.fsum(scores) / len(scores)} if scores else {}


def _truth(references: Sequence[str]) -> bool:
    need_references("POPE", references)
    labels = {_exact(reference) for reference in references}
    if len(labels) != 1 or None in labels:
        raise VlmLitError(f"POPE needs the reference yes or no, got {list(references)}. Correct the reference.")
    return labels == {True}
