"""Tests of multiple choice: the letter that each extractor finds, and replies without one."""

import pytest

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.multiple_choice import MultipleChoiceAccuracy, extracted_letter
from vlm_lit.metrics.rules import Answer

COLOURS = ["red", "green", "blue", "dark red"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("(B) green", "B"),
        ("The answer is B", "B"),
        ("B. green", None),  # neither ` B ` nor five words
        ("B) green", None),
        ("b", None),
        ("A or B", "B"),  # the last of several
        ("(A), but then (B) or (A)", "A"),
        ("(A) B", "A"),  # brackets go before bare letters
        ("A (B", "A"),
        ("E", None),  # there are four choices
        ("green", None),  # a text counts in longer replies only
        ("I think that it must be Green here", "B"),
        ("one two three four five dark red", "A"),  # `red` starts further right than `dark red`
        ("one two three green", None),
        ("", None),
        (".,B,.", None),  # commas go before full stops, once each, so that one stays at either end
        (",.B.,", "B"),
        (" B ", "B"),
    ],
)
def test_mmmu(reply: str, expected: str | None) -> None:
    assert extracted_letter(reply, COLOURS) == expected


def test_mmmu_takes_the_first_letter_of_texts_at_one_place() -> None:
    assert extracted_letter("one two three four five red", ["red", "red car", "re"]) == "A"


def test_letters_reach_as_far_as_the_choices() -> None:
    assert extracted_letter("G", ["x"] * 7) == "G"
    assert extracted_letter("F", ["x"] * 5) is None
    assert extracted_letter("E") == "E"
    assert extracted_letter("F") is None


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B", "B"),
        ("F", None),
        ("b", None),
        ("", None),
        ("AB", None),
        ("B. green", "B"),
        ("B.", None),
        ("B.green", None),
        ("F. green", None),
        ("The answer is B.", "B"),
        ("The answer is B!", "B"),
        ("The answer is B", None),  # the dot has to be some character
        ("The answer is B\n", None),
        ("So. The answer is Z. Yes", "Z"),
        ("The answer is A. The answer is B.", None),
        ("(B)", None),
    ],
)
def test_scienceqa_llava(reply: str, expected: str | None) -> None:
    assert extracted_letter(reply, COLOURS, extractor="scienceqa_llava") == expected


def judged(rule: MultipleChoiceAccuracy, *replies: str) -> dict[str, float]:
    metric = ItemMetric(rule)
    n = len(replies)
    metric.update(replies, [["B"]] * n, [str(i) for i in range(n)], choices=[COLOURS] * n)
    return metric.compute()


def test_unparsed_replies_are_wrong_and_counted() -> None:
    assert judged(MultipleChoiceAccuracy(), "B", "A", "green", "?") == {"overall": 0.25, "unparsed": 0.5}


def test_a_random_fallback_follows_from_seed_and_id_alone() -> None:
    replies = ["?"] * 400
    drawn = judged(MultipleChoiceAccuracy(fallback="random"), *replies)
    assert drawn["unparsed"] == 1.0
    assert 0.15 < drawn["overall"] < 0.35  # four choices; 0.25 with a standard error of 0.022
    assert judged(MultipleChoiceAccuracy(fallback="random"), *replies) == drawn
    rules = [MultipleChoiceAccuracy(fallback="random", seed=seed) for seed in (1, 2)]
    items = [Answer("?", ["B"], str(i), COLOURS) for i in range(400)]
    one, other = ([rule.score(item) for item in items] for rule in rules)
    assert one != other
    assert [rules[0].score(item) for item in reversed(items)] == one[::-1]


@pytest.mark.parametrize(
    ("reference", "choices"), [("green", COLOURS), ("E", COLOURS), ("F", []), ("", COLOURS), ("b", COLOURS)]
)
def test_the_reference_is_a_letter_of_the_choices(reference: str, choices: list[str]) -> None:
    with pytest.raises(VlmLitError, match="needs one letter of ABCD"):
        MultipleChoiceAccuracy().score(Answer("B", [reference], choices=choices))


def test_two_right_letters_are_refused() -> None:
    with pytest.raises(VlmLitError, match="needs one letter"):
        MultipleChoiceAccuracy().score(Answer("B", ["A", "B"], choices=COLOURS))


def test_the_name_always_says_how_letters_were_found() -> None:
    assert MultipleChoiceAccuracy().name == "multiple_choice[extractor=mmmu]"
    llava = MultipleChoiceAccuracy("scienceqa_llava", "random", 3)
    assert llava.name == "multiple_choice[extractor=scienceqa_llava,fallback=random,seed=3]"
    assert MultipleChoiceAccuracy(fallback="random").name == "multiple_choice[extractor=mmmu,fallback=random]"


def test_a_seed_without_draws_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed has no effect without fallback random"):
        MultipleChoiceAccuracy(seed=1)
    with pytest.raises(ConfigError, match="seed is True; it must be a whole number"):
        MultipleChoiceAccuracy(seed=True)
