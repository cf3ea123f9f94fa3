"""Tests of BLEU and ROUGE-L (torchmetrics' values) and of answer length (counts of words)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.text import bleu_score, rouge_score

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.answer_length import AnswerLength
from vlm_lit.metrics.bleu import BLEU
from vlm_lit.metrics.rouge import RougeL, rouge_l_f1
from vlm_lit.metrics.rules import Answer, Rule

SENTENCES = st.lists(st.sampled_from(["a", "cat", "Cat", "sat.", "on", "mat", "-"]), max_size=9).map(" ".join)
CORPUS = st.lists(st.tuples(SENTENCES, st.lists(SENTENCES, min_size=1, max_size=3)), min_size=1, max_size=4)


def judged(rule: Rule, items: list[tuple[str, list[str]]]) -> dict[str, float]:
    metric = ItemMetric(rule)
    metric.update([p for p, _ in items], [r for _, r in items], [str(i) for i in range(len(items))])
    return metric.compute()


@given(corpus=CORPUS, n_gram=st.integers(1, 4))
def test_bleu_is_torchmetrics(corpus: list[tuple[str, list[str]]], n_gram: int) -> None:
    expected = float(bleu_score([p for p, _ in corpus], [r for _, r in corpus], n_gram=n_gram))
    for tokenizer in ("official", "unicode"):  # these texts have blanks between their words
        found = judged(BLEU(n_gram=n_gram, tokenizer=tokenizer), corpus)["overall"]
        assert found == pytest.approx(expected, abs=1e-5)


def test_bleu_of_a_known_corpus() -> None:
    corpus = [("the cat is on the mat", ["there is a cat on the mat", "a cat is on the mat"])]
    assert judged(BLEU(), corpus)["overall"] == pytest.approx(0.7598, abs=5e-5)
    assert judged(BLEU(), [*corpus, ("x y", ["a b"])])["overall"] != judged(BLEU(), corpus)["overall"] / 2


@given(prediction=SENTENCES, references=st.lists(SENTENCES, min_size=1, max_size=3))
def test_rouge_l_is_torchmetrics(prediction: str, references: list[str]) -> None:
    found = rouge_score([prediction], [references], accumulate="best", rouge_keys="rougeL")
    for tokenizer in ("official", "unicode"):
        assert rouge_l_f1(prediction, references, tokenizer) == pytest.approx(float(found["rougeL_fmeasure"]), abs=1e-6)


def test_rouge_l_of_known_texts() -> None:
    assert rouge_l_f1("My name is John", ["Is your name John"]) == 0.5
    assert rouge_l_f1("the cat", ["a dog", "The cat!"]) == 1.0
    assert rouge_l_f1("", [""]) == 0.0


def test_answer_length_is_in_words_and_no_score() -> None:
    items = [("one two  three", ["one", "one two"]), ("", ["one two three four five"])]
    found = judged(AnswerLength(), items)
    assert found == {"prediction_words": 1.5, "reference_words": 3.25, "ratio": pytest.approx(3 / 6.5)}
    assert AnswerLength().score(Answer("one", ["one"])) is None


def test_no_ratio_to_no_words() -> None:
    assert judged(AnswerLength(), [("red", [" "])]) == {"prediction_words": 1.0, "reference_words": 0.0}


def test_names_say_what_they_are_not() -> None:
    assert RougeL().name == "rouge_l[f1,not_coco,unicode_words]"
    assert RougeL(tokenizer="official").name == "rouge_l[f1,not_coco]"
    assert BLEU(n_gram=2).name == "bleu[n_gram=2,unicode_tokens]"
    assert BLEU(n_gram=2, tokenizer="official").name == "bleu[n_gram=2,whitespace_tokens]"


@pytest.mark.parametrize(
    "text",
    ["图中有一只小狗在跑", "صندوق أزرق كبير هنا", "большая синяя коробка там", "กล่องสีฟ้าใบใหญ่", "एक बड़ा नीला डिब्बा"],
)
def test_the_same_text_scores_one_in_any_script(text: str) -> None:
    assert rouge_l_f1(text, [text]) == 1.0
    assert judged(BLEU(), [(text, [text])])["overall"] == pytest.approx(1.0)


def test_part_of_a_text_without_blanks_scores_between() -> None:
    # 4 of 5 letters, and 4 of 4: P = 1, R = 4/5.
    assert rouge_l_f1("一只小狗", ["一只小黑狗"]) == pytest.approx(8 / 9)
    assert rouge_l_f1("一只小狗", ["一只小黑狗"], "official") == 0.0
    assert rouge_l_f1("café bleu", ["CAFÉ"]) == pytest.approx(2 / 3)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="tokenizer"):
        RougeL(tokenizer="words")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="n_gram is 5; it must be 1 to 4"):
        BLEU(n_gram=5)
    for rule in (BLEU(), RougeL(), AnswerLength()):
        with pytest.raises(VlmLitError, match="at least one reference"):
            rule.counts(Answer("red", []))
