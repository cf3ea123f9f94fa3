"""Tests of answer vocabularies: built as the published one was, read from what holds one, and refused clearly."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from tests.support.class_cases import asked
from vlm_lit.data.answers.vocabulary import AnswerVocabulary
from vlm_lit.data.answers.vocabulary_building import VocabularySettings, answer_of, build_vocabulary
from vlm_lit.errors import ConfigError, RecordError


def answered(*answers: str) -> list[str | None]:
    """The answers of a question each, answered so."""
    return [answer_of(asked(str(i), None, answer=answer)) for i, answer in enumerate(answers)]


def test_every_answer_of_the_training_part_by_default_in_the_order_of_their_first_occurrence() -> None:
    found = build_vocabulary(answered("two", "Yes", "red", "yes", "the dog", "2"), VocabularySettings())
    assert found == AnswerVocabulary(("2", "yes", "red", "dog"), normalized=True)
    raw = build_vocabulary(answered("two", "Yes", " red", "yes"), VocabularySettings(normalize="none"))
    assert raw == AnswerVocabulary(("two", "Yes", "red", "yes"), normalized=False)


def test_least_count_and_most_choose_by_frequency_and_keep_the_order() -> None:
    given = answered("red", "yes", "2", "yes", "blue", "2", "yes", "blue", "no")
    at_least = build_vocabulary(given, VocabularySettings(least_count=2))
    assert at_least.answers == ("yes", "2", "blue")
    # 2 and blue are equally frequent: the one that occurs first is taken. Frequency does not order them.
    assert build_vocabulary(given, VocabularySettings(most=2)).answers == ("yes", "2")
    late = answered("red", "yes", "no", "no", "no", "yes")
    assert build_vocabulary(late, VocabularySettings(most=2)).answers == ("yes", "no")
    both = build_vocabulary(given, VocabularySettings(least_count=2, most=2))
    assert both.answers == ("yes", "2")


def test_questions_that_nobody_answered_are_not_counted() -> None:
    open_ones = [answer_of(asked("open", None)), answer_of(asked("blank", None, answer=" "))]
    assert open_ones == [None, None]
    given = [*answered("yes", "no"), *open_ones]
    assert build_vocabulary(given, VocabularySettings()).answers == ("yes", "no")


def test_too_few_answers_are_refused_with_what_the_records_have() -> None:
    with pytest.raises(
        ConfigError, match=r"has 1 answers with least_count 2 and most None.*'yes' 2 times, 'no' 1 times"
    ):
        build_vocabulary(answered("yes", "no", "yes"), VocabularySettings(least_count=2))
    with pytest.raises(ConfigError, match=r"has 0 answers.*none at all"):
        build_vocabulary([], VocabularySettings())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"least_count": 0}, "least_count is 0; it must be at least 1"),
        ({"most": -1}, "most is -1"),
        ({"source": "val"}, "source is 'val'; it must be train or train_and_val"),
        ({"normalize": "lower"}, "normalize is 'lower'; it must be vqa or none"),
        (
            {"file": "a.json", "most": 3, "source": "train_and_val"},
            "file is a.json, so most and source would do nothing",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        VocabularySettings(**settings)  # type: ignore[arg-type]


def test_a_text_is_looked_up_in_the_vocabularys_spelling() -> None:
    normalized = AnswerVocabulary(("2", "yes"), normalized=True)
    assert normalized.index("two") is None
    assert normalized.index(normalized.spelled("The Two.")) == 0
    raw = AnswerVocabulary(("Two", "yes"), normalized=False)
    assert raw.index(raw.spelled(" Two\n")) == 0
    assert raw.index(raw.spelled("two")) is None


def test_what_is_written_is_read_and_its_digest_names_the_content(tmp_path: Path) -> None:
    vocabulary = AnswerVocabulary(("", "blåbär", 'say "x"', "2"), normalized=True)
    vocabulary.write(tmp_path / "run" / "answers.json")
    found = AnswerVocabulary.read(tmp_path / "run" / "answers.json")
    assert found == vocabulary
    assert found.digest == vocabulary.digest
    others = [AnswerVocabulary(vocabulary.answers[::-1], True), AnswerVocabulary(vocabulary.answers, False)]
    assert len({vocabulary.digest, *(other.digest for other in others)}) == 3
    assert pickle.loads(pickle.dumps(vocabulary)).index("2") == 3


def test_lists_configs_and_lines_of_text_are_read(tmp_path: Path) -> None:
    lines, listed, config = tmp_path / "a.txt", tmp_path / "a.json", tmp_path / "config.json"
    lines.write_bytes("\ufeffyes\r\n2 \r\n".encode())
    assert AnswerVocabulary.read(lines) == AnswerVocabulary(("yes", "2"), normalized=True)
    assert AnswerVocabulary.read(lines.rename(tmp_path / "words")) == AnswerVocabulary(("yes", "2"), normalized=True)
    lines = tmp_path / "words"
    lines.write_text('yes\n2\n"stop"\n[red]\n', encoding="utf-8")
    assert AnswerVocabulary.read(lines).answers == ("yes", "2", '"stop"', "[red]")
    lines.write_text("yes\n2\n", encoding="utf-8")
    listed.write_text('["Yes", "2"]', encoding="utf-8")
    assert AnswerVocabulary.read(listed) == AnswerVocabulary(("Yes", "2"), normalized=False)
    # The labels' own numbers count, not their places in the file.
    config.write_text(json.dumps({"id2label": {"1": "no", "0": "yes", "2": "2"}}), encoding="utf-8")
    assert AnswerVocabulary.read(config).answers == ("yes", "no", "2")
    assert AnswerVocabulary.of_labels({1: "no", 0: "yes"}, "config").answers == ("yes", "no")
    settings = VocabularySettings(file=str(lines))
    assert build_vocabulary(answered("never", "asked"), settings).answers == ("yes", "2")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '["yes", "no", "yes"]', "The answer 'yes' stands in the answer vocabulary twice.*Correct the list"),
        ("a.json", '["yes"]', "has 1 answers; to choose takes two at least"),
        ("a.json", '["yes", 2]', "answer 1, counted from 0, is 2, no text. Write it in quotes"),
        ("a.json", '{"answers": "yes"}', "holds no answer vocabulary. Give a run's answers.json"),
        ("a.json", '{"answers": ["yes", "no"], "normalized": "no"}', "holds no answer vocabulary"),
        ("a.json", '["yes", "no"', "line 1"),
        ("a.json", '{"answers": ["yes", "no"], "answers": ["a"]}', "answers"),
        ("config.json", '{"id2label": {"0": "yes", "2": "no"}}', "id2label has 2 answers and none under 1"),
        ("config.json", '{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}', "names no answers"),
        ("a.txt", "yes\n\nno\n", "line 2 is empty"),
        ("a.csv", "answer,count\nyes,3\nno,2\n", r"end in \.csv are not read as an answer vocabulary\. Give a run's"),
        ("a.tsv", "yes\t3\nno\t2\n", r"end in \.tsv are not read"),
        (
            "a.jsonl",
            '{"answer": "yes"}\n{"answer": "no"}\n',
            r"end in \.jsonl are not read.*an answer a line \(\.txt\)",
        ),
        ("a.yaml", "- yes\n- no\n", r"end in \.yaml are not read"),
        (
            "answer2label.txt",  # BEiT-3's
            '{"answer": "yes", "label": 0}\n{"answer": "no", "label": 1}\n',
            "line 1 is JSON, or a row of a table.*Write the answers alone, one a line",
        ),
        ("a.txt", '{"yes": 0,\n"no": 1}\n', "line 1 is JSON"),
        ("a.txt", "yes\nno\t9\n", "line 2 is JSON, or a row of a table.*'no.*t9'"),
        ("a", '"yes"\n"no"\n', "line 1 is in quotes, and all of it would be the answer"),
        ("a.json", '["yes", " no"]', "answer 1, counted from 0, is ' no', with blanks around it.*Write 'no'"),
        ("a.json", '{"answers": ["yes", "a\\tb"], "normalized": false}', "answer 1.*a tab or a line break"),
    ],
)
def test_a_file_that_holds_no_vocabulary_is_refused_by_name(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=said) as caught:
        AnswerVocabulary.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["none.json", "none.txt"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordError, match=f"{name}.*cannot be read .*Correct the path"):
        AnswerVocabulary.read(tmp_path / name)
