"""Tests of AMBER's discriminative score: worked by hand, its oddities one by one."""

from __future__ import annotations

import pytest

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.amber import AMBER, DIMENSIONS
from vlm_lit.metrics.catalogue import metric
from vlm_lit.metrics.rules import Answer

STATE, NUMBER, ACTION = (f"discriminative-attribute-{name}" for name in ("state", "number", "action"))
EXISTENCE, RELATION = "discriminative-hallucination", "relation"


def values(*items: tuple[str, str, str | None]) -> dict[str, float]:
    """The figures of answers, each with its truth and its type."""
    made = metric("amber")
    groups = [{"type": kind} if kind else {} for *_, kind in items]
    made.update([a for a, *_ in items], [[t] for _, t, _ in items], [str(i) for i in range(len(items))], groups)
    return made.compute()


def test_worked_by_hand() -> None:
    # 9 answers of 13 right; 8 times No said, 7 of them rightly; No is true of 9.
    items = [("No", "no", RELATION)] * 7 + [("No", "yes", RELATION)] + [("Yes", "no", RELATION)] * 2
    items += [("Yes", "yes", "discriminative-relation")] * 2 + [("yes", "yes", RELATION)]
    found = values(*items)
    assert found["overall"] == 9 / 13
    assert found["accuracy"] == 0.692  # 9 / 13.001 = 69.225 %
    assert found["precision"] == 0.875  # 7 / 8.001 = 87.489 %
    assert found["recall"] == 0.778  # 7 / 9.001 = 77.769 %
    assert found["f1"] == 0.824  # 2 * .875 * .778 / (.875 + .778 + .0001) = 82.360 %


def test_denominators_begin_at_a_thousandth() -> None:
    found = values(("No", "no", RELATION))
    assert (found["overall"], found["accuracy"], found["precision"], found["recall"]) == (1.0, 0.999, 0.999, 0.999)
    nothing = values(("Yes", "yes", RELATION))  # nothing over nothing
    assert (nothing["precision"], nothing["recall"], nothing["f1"]) == (0.0, 0.0, 0.0)


def test_the_denominator_of_attributes_begins_at_three() -> None:
    found = values(("No", "no", STATE), ("No", "no", NUMBER))
    assert found["dimension/attribute/accuracy"] == pytest.approx(0.999)  # 2 / 2.003 = 99.85 %
    assert found["attribute/state/accuracy"] == 0.999  # 1 / 1.001
    many = values(*[("No", "no", STATE)] * 3, ("No", "no", ACTION))
    assert many["dimension/attribute/accuracy"] == 0.999  # 4 / 4.003 = 99.925 %; of 4.001 it would be 1
    mixed = values(*[("No", "no", STATE)] * 3, ("No", "no", RELATION))
    assert mixed["accuracy"] == 1.0  # 4 / 4.001 = 99.975 %


def test_f1_of_existence_has_a_larger_denominator() -> None:
    items = [("No", "no")] * 4 + [("Yes", "no")]
    existence = values(*[(a, t, EXISTENCE) for a, t in items])
    relation = values(*[(a, t, RELATION) for a, t in items])
    # P = 4 / 4.001 = 100.0 %, R = 4 / 5.001 = 80.0 %: 88.884 % with 0.0001, 88.840 % with 0.001.
    assert (relation["precision"], relation["recall"], relation["f1"]) == (1.0, 0.8, 0.889)
    assert (existence["precision"], existence["recall"], existence["f1"]) == (1.0, 0.8, 0.888)
    both = values(*[(a, t, EXISTENCE) for a, t in items], *[(a, t, RELATION) for a, t in items])
    assert (both["dimension/existence/f1"], both["dimension/relation/f1"]) == (0.888, 0.889)


def test_precision_and_recall_are_rounded_before_f1() -> None:
    # P = 1 / 3.001 -> 33.3 %, R = 1 / 1.001 -> 99.9 %: F1 49.947 -> 49.9 %; unrounded 49.98 -> 50.0 %.
    found = values(("No", "no", RELATION), ("No", "yes", RELATION), ("No", "yes", RELATION))
    assert (found["precision"], found["recall"], found["f1"]) == (0.333, 0.999, 0.499)


@pytest.mark.parametrize("answer", ["yes", "no", "Yes.", " Yes", "No, there is none.", "YES", ""])
def test_an_answer_is_exactly_yes_or_no_or_else_wrong(answer: str) -> None:
    judge = AMBER()
    for truth in ("yes", "no"):
        counts = judge.counts(Answer(answer, [truth], groups={"type": STATE}))
        assert counts is not None
        assert (counts[0], judge.unparsed(counts)) == (0, 1)
    assert judge.score(Answer("Yes", ["yes"], groups={"type": STATE})) == 1
    assert judge.score(Answer("No", ["no"])) == 1  # a question without a type counts overall


def test_each_type_has_its_place() -> None:
    assert set(values(*[("No", "no", kind) for kind in DIMENSIONS])) >= {
        *(f"dimension/{name}" for name in ("attribute", "existence", "relation")),
        *(f"attribute/{name}" for name in ("state", "number", "action")),
    }
    groups = AMBER().groups(Answer("No", ["no"], groups={"type": STATE, "mine": "x"}))
    assert groups == {"dimension": "attribute", "attribute": "state", "mine": "x"}


def test_generative_questions_are_left_out() -> None:
    assert AMBER().counts(Answer("A lake.", ["lake"], groups={"type": "generative"})) is None


def test_an_unknown_type_and_an_unknown_truth_are_refused() -> None:
    with pytest.raises(VlmLitError, match=r"AMBER has no type 'relations'. Did you mean relation\?"):
        values(("No", "no", "relations"))
    with pytest.raises(VlmLitError, match=r"AMBER needs the reference yes or no, got \['maybe'\]"):
        values(("No", "maybe", RELATION))
