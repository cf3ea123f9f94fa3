"""AMBER's discriminative score: accuracy, precision, recall and F1 of `No` about objects, attributes and relations.

Source of the definition: junyangwang0410/AMBER, `inference.py` and `data/metrics.txt`, snapshot 534babf; its oddities
are kept, since published figures have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

from vlm_lit.errors import VlmLitError, nearest
from vlm_lit.metrics.rules import Answer, Counts, Rule, need_references

TYPE: Final = "type"
"""The group of a question's type, as AMBER's annotations have it."""

GENERATIVE: Final = "generative"

DIMENSIONS: Final[Mapping[str, tuple[str, str | None]]] = MappingProxyType(
    {
        "discriminative-attribute-state": ("attribute", "state"),
        "discriminative-attribute-number": ("attribute", "number"),
        "discriminative-attribute-action": ("attribute", "action"),
        "discriminative-hallucination": ("existence", None),
        "discriminative-relation": ("relation", None),
        "relation": ("relation", None),
    }
)
"""The dimension and the attribute that each type of AMBER's annotations belongs to."""

_ATTRIBUTES: Final = ("state", "number", "action")
_START: Final = 0.001  # every denominator begins there; an attribute's is the sum of three


@dataclass(frozen=True)
class AMBER(Rule):
    """AMBER's figures of yes/no questions; overall, per dimension and per kind of attribute.

    The positive class is `No`: precision is right `No` over said `No`, recall right `No` over true `No`. An answer
    counts only if it is exactly `Yes` or `No`; any other is wrong, and counted as unparsed. Figures are rounded to a
    tenth of a percent, precision and recall before F1 is made of them. Denominators are too large by 0.001 (where there
    are attributes of several kinds and nothing else, by 0.003), that of F1 by 0.0001 (of existence alone, by 0.001).
    `overall` is the plain share of right answers, not rounded.

    A question's type is its group `type`, by AMBER's names. Generative questions are left out: CHAIR, Cover, Hal and
    Cog take NLTK's tagger, WordNet and the large vectors of spaCy.
    """

    title: ClassVar[str] = "amber"
    columns: ClassVar[int] = 5 + len(_ATTRIBUTES) + 1

    def counts(self, answer: Answer) -> Counts | None:
        """Right, said no, true no, both, unparsed; then of which attribute, and whether existence: each 0 or 1."""
        dimension, attribute = _place(answer)
        if dimension == GENERATIVE:
            return None
        no, said_no = not _truth(answer.references), answer.prediction == "No"
        said_yes = answer.prediction == "Yes"
        kinds = (attribute == name for name in _ATTRIBUTES)
        flags = (said_no if no else said_yes, said_no, no, no and said_no, not (said_no or said_yes))
        return tuple(map(float, (*flags, *kinds, dimension == "existence")))

    def groups(self, answer: Answer) -> Mapping[str, str]:
        """The item's own groups, with its dimension and its attribute instead of its type."""
        dimension, attribute = _place(answer)
        found = {"dimension": dimension, "attribute": attribute}
        own = {name: value for name, value in answer.groups.items() if name != TYPE}
        return {**own, **{name: value for name, value in found.items() if value is not None}}

    def compared(self, answer: Answer) -> tuple[str, Sequence[str]]:
        """The prediction as it is, and the answer that it would have to be."""
        return answer.prediction, ["Yes" if _truth(answer.references) else "No"]

    def values(self, sums: Sequence[float], n: int) -> dict[str, float]:
        """The share of right answers as `overall`, then AMBER's rounded figures, as fractions."""
        right, said_no, true_no, right_no, _, *attributes, existence = sums
        several = sum(attributes) == n and sum(map(bool, attributes)) > 1
        start = sum(_START for _ in attributes) if several else _START
        accuracy = _percent(right / (n + start))
        precision, recall = _percent(right_no / (said_no + start)), _percent(right_no / (true_no + start))
        p, r = precision / 100, recall / 100
        f1 = _percent(2 * p * r / (p + r + (0.001 if existence == n else 0.0001)))
        found = {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}
        return {"overall": right / n, **{name: round(value / 100, 3) for name, value in found.items()}}

    def unparsed(self, sums: Sequence[float]) -> int:
        """How many answers were neither `Yes` nor `No`."""
        return int(sums[4])


def _place(answer: Answer) -> tuple[str | None, str | None]:
    """The dimension and the attribute of a question; nothing where it has no type."""
    kind = answer.groups.get(TYPE)
    if kind is None or kind == GENERATIVE:
        return kind, None
    if kind not in DIMENSIONS:
        near = nearest(kind, DIMENSIONS)
        meant = f" Did you mean {near}?" if near else ""
        raise VlmLitError(f"AMBER has no type {kind!r}.{meant} Types are: {GENERATIVE}, {', '.join(DIMENSIONS)}.")
    return DIMENSIONS[kind]


def _truth(references: Sequence[str]) -> bool:
    need_references("AMBER", references)
    found = {reference.strip().lower() for reference in references}
    if len(found) != 1 or not found <= {"yes", "no"}:
        raise VlmLitError(f"AMBER needs the reference yes or no, got {list(references)}. Correct the reference.")
    return found == {"yes"}


def _percent(fraction: float) -> float:
    return round(fraction * 100, 1)
