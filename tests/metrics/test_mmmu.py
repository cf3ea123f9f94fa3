"""Tests of MMMU accuracy: options by letter, open questions by the reply, by subject and discipline."""

import pytest

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.mmmu import DISCIPLINES, MMMUAccuracy
from vlm_lit.metrics.open_answers import open_answer_score
from vlm_lit.metrics.rules import Answer


@pytest.mark.parametrize(
    ("reply", "references", "score"),
    [
        ("30", ["30"], 1),
        ("30.004", ["30"], 1),  # rounded to two digits
        ("30.006", ["30"], 0),
        ("1,234", ["1234"], 1),
        ("It costs 1,234 dollars", ["1234"], 1),
        ("about 3e2 volts", ["300"], 1),
        ("The answer is 12.5 W.", ["12.5"], 1),
        ("12 or so, but it is 13", ["12"], 0),  # from the last `is ` on
        ("x + 2 = 7", ["7"], 1),  # an equals sign concludes in the last line
        ("x + 2 = 7\nSo be it", ["7"], 0),  # but in no other
        ("The sky is red. The sea is blue", ["red"], 0),  # a line is one sentence, whatever full stops it has
        ("The sky is red\nThe sea is blue", ["red"], 1),
        ("RED CABBAGE", ["cabbage"], 1),
        ("cab", ["cabbage"], 0),
        ("a b c", ["b"], 1),  # one letter needs a blank beside it
        ("cab 1", ["b"], 1),  # on one side only
        ("abc", ["b"], 0),
        ("Tampa", ["Tampa", "Florida"], 1),
        ("24/7", ["24/7", "3.429"], 1),
        ("3.43", ["24/7", "3.429"], 1),
        ("", ["7"], 0),
        ("so :", ["7"], 0),
        ("7 is :", ["7"], 1),  # a mark alone concludes nothing, and the whole reply is looked at
        ("nan", ["nan"], 0),
        ("answer is the result final ", ["result"], 0),
    ],
)
def test_an_open_answer_is_looked_for_in_the_reply(reply: str, references: list[str], score: float) -> None:
    assert open_answer_score(reply, references) == score


def test_no_references_are_refused() -> None:
    with pytest.raises(VlmLitError, match="at least one reference"):
        open_answer_score("x", [])


def test_both_kinds_of_question_make_one_mean() -> None:
    metric = ItemMetric(MMMUAccuracy())
    ids = ["validation_Accounting_1", "validation_Art_Theory_12", "dev_Math_3", "mine_4"]
    choices = [["red", "green"], ["red", "green", "blue"], [], []]
    replies, references = ["B", "C.", "it is 7", "9"], [["B"], ["A"], ["7"], ["8"]]
    metric.update(replies, references, ids, [{"question_type": "open"}] * 4, choices)
    assert metric.compute() == {
        "overall": 0.5,
        "unparsed": 0.0,
        "discipline/Art and Design": 0.0,
        "discipline/Art and Design/unparsed": 0.0,
        "discipline/Business": 1.0,
        "discipline/Business/unparsed": 0.0,
        "discipline/Science": 1.0,
        "discipline/Science/unparsed": 0.0,
        "question_type/open": 0.5,
        "question_type/open/unparsed": 0.0,
        "subject/Accounting": 1.0,
        "subject/Accounting/unparsed": 0.0,
        "subject/Art_Theory": 0.0,
        "subject/Art_Theory/unparsed": 0.0,
        "subject/Math": 1.0,
        "subject/Math/unparsed": 0.0,
    }


def test_a_choice_whose_options_are_not_known_is_still_one() -> None:
    choice = Answer("because", ["B"], groups={"question_type": "multiple-choice"})
    assert MMMUAccuracy().counts(choice) == (0.0, 1.0)
    assert MMMUAccuracy().counts(Answer("B", ["B"])) == (1.0, 0.0)


def test_the_original_draws_a_letter_where_none_is_meant() -> None:
    answers = [Answer("?", ["B"], f"validation_Math_{i}", ["x", "y"]) for i in range(400)]
    right = sum(MMMUAccuracy(fallback="random").counts(answer)[0] for answer in answers)
    assert 150 < right < 250  # half of 400, with a standard deviation of 10
    assert all(MMMUAccuracy().counts(answer) == (0.0, 1.0) for answer in answers)
    assert MMMUAccuracy(fallback="random", seed=2).name == "mmmu[extractor=mmmu,fallback=random,seed=2]"


def test_thirty_subjects_have_a_discipline_of_six() -> None:
    assert (len(DISCIPLINES), len(set(DISCIPLINES.values()))) == (30, 6)


def test_a_seed_without_draws_is_refused_under_its_own_name() -> None:
    with pytest.raises(ConfigError, match="mmmu: seed has no effect"):
        MMMUAccuracy(seed=1)
