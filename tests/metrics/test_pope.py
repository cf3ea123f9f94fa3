"""Tests of POPE: what each parser takes for yes, and the figures made of it."""

import pytest

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.pope import POPE, Parser, pope_answer


@pytest.mark.parametrize(
    "text", ["No", "no", "not", "No, there is", "There is no dog.", "no, yes", "Yes, there is no doubt"]
)
def test_official_no(text: str) -> None:
    assert pope_answer(text) is False


@pytest.mark.parametrize(
    "text",
    ["NO", "no\n", "no!", "isn't", "cannot", "Not", "", "yes", "Yes. There is no dog", "maybe", "\tno", "n,othing"],
)
def test_official_yes(text: str) -> None:
    assert pope_answer(text) is True


def test_official_deletes_commas_before_it_splits() -> None:
    assert pope_answer("n,o") is False
    assert pope_answer("yes,no") is True  # one word, yesno


@pytest.mark.parametrize(
    ("text", "expected"), [("Yes", True), (" no\n", False), ("NO", False), ("no.", None), ("", None), ("no dog", None)]
)
def test_exact(text: str, expected: bool | None) -> None:
    assert pope_answer(text, parser="exact") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Yes, I see it", True), ("NO!", False), ("No. It isn't", False), ("yes and no", None), ("not", None), ("", None)],
)
def test_yesno_word(text: str, expected: bool | None) -> None:
    assert pope_answer(text, parser="yesno_word") is expected


def judged(parser: Parser, *pairs: tuple[str, str]) -> dict[str, float]:
    metric = ItemMetric(POPE(parser=parser))
    metric.update([p for p, _ in pairs], [[r] for _, r in pairs], [str(i) for i in range(len(pairs))])
    return metric.compute()


def test_the_figures() -> None:
    # 3 true yes, 1 false yes, 2 missed, 4 true no.
    pairs = [("yes", "yes")] * 3 + [("yes", "no")] + [("no", "yes")] * 2 + [("no", "no")] * 4
    assert judged("official", *pairs) == {
        "overall": 0.7,
        "accuracy": 0.7,
        "precision": 0.75,
        "recall": 0.6,
        "f1": pytest.approx(2 * 0.75 * 0.6 / 1.35),
        "yes_ratio": 0.4,
    }


def test_the_yes_ratio_is_that_of_the_answers_not_of_the_labels() -> None:
    assert judged("official", ("yes", "no"), ("yes", "no"))["yes_ratio"] == 1.0


def test_what_cannot_be_divided_is_zero() -> None:
    found = judged("official", ("no", "no"))
    assert (found["overall"], found["precision"], found["recall"], found["f1"]) == (1.0, 0.0, 0.0, 0.0)


def test_unparsed_is_an_error_but_no_missed_yes_when_exact() -> None:
    found = judged("exact", ("yes", "yes"), ("perhaps", "yes"), ("perhaps", "no"), ("no", "no"))
    assert (found["overall"], found["recall"], found["unparsed"]) == (0.5, 1.0, 0.5)


def test_unparsed_is_a_missed_yes_when_words_are_looked_for() -> None:
    found = judged("yesno_word", ("yes", "yes"), ("perhaps", "yes"), ("perhaps", "no"), ("no", "no"))
    assert (found["overall"], found["recall"], found["unparsed"]) == (0.5, 0.5, 0.5)


def test_categories_and_the_mean_of_their_f1() -> None:
    metric = ItemMetric(POPE())
    groups = [{"category": "random"}, {"category": "random"}, {"category": "popular"}, {"other": "x"}]
    metric.update(["yes", "yes", "yes", "yes"], [["yes"], ["no"], ["yes"], ["yes"]], list("abcd"), groups)
    found = metric.compute()
    assert found["category/random"] == 0.5
    assert found["category/random/f1"] == pytest.approx(2 / 3)
    assert found["category/popular/f1"] == 1.0
    assert found["f1/mean_over_category"] == pytest.approx(5 / 6)
    assert found["f1"] == pytest.approx(2 * 0.75 / 1.75)


def test_labels_are_yes_or_no() -> None:
    assert judged("official", ("yes", "Yes"))["overall"] == 1.0
    with pytest.raises(VlmLitError, match="needs the reference yes or no, got \\['maybe'\\]"):
        judged("official", ("yes", "maybe"))


def test_options() -> None:
    assert POPE().name == "pope"
    assert POPE(parser="exact").name == "pope[parser=exact]"
    with pytest.raises(ConfigError, match=r"must be one of official, exact, yesno_word\. Did you mean exact"):
        pope_answer("yes", parser="exakt")  # type: ignore[arg-type]
