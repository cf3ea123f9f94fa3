"""Tests of soft targets and of coverage, by hand and against the published rules on files in VQA v2's form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.class_cases import asked, picture
from vlm_lit.data.answers.coverage import coverage
from vlm_lit.data.answers.targets import AnswerTargets, SoftTargets, targets_of
from vlm_lit.data.answers.vocabulary import AnswerVocabulary
from vlm_lit.data.answers.vocabulary_building import VocabularySettings, build_vocabulary
from vlm_lit.data.checking.given_answers import GivenAnswers, given_answers
from vlm_lit.data.records.conversation_dataset import ConversationDataset, open_source
from vlm_lit.data.records.sources import SourceSettings
from vlm_lit.metrics.vqa_accuracy import vqa_score

VOCABULARY = AnswerVocabulary(("2", "yes", "red", "no", "blue"), normalized=True)
RAW = AnswerVocabulary(("Red", "red", "blue"), normalized=False)


@pytest.mark.parametrize(("count", "score"), [(1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vilts_table(count: int, score: float) -> None:
    given = ["yes"] * count + ["elsewhere"] * (10 - count)
    assert targets_of(given, "yes", VOCABULARY, "vilt") == {1: score}


def test_vilt_does_not_normalise_what_people_wrote_and_vqa_does() -> None:
    given = ["two"] * 3 + ["2"] * 2 + ["yes"] + ["Yes"] * 4
    assert targets_of(given, "Yes", VOCABULARY, "vilt") == {0: 0.6, 1: 0.3}
    assert targets_of(given, "Yes", VOCABULARY, "vqa") == {0: 1.0, 1: 1.0}
    assert targets_of(given, "Yes", VOCABULARY, "one_hot") == {1: 1.0}


@pytest.mark.parametrize(
    "given",
    [
        ["red"] * 2 + ["blue"] * 3 + ["no"] + ["A red"] * 2 + ["green", "two"],
        ["red"] * 10,
        ["Red"] * 10,
        ["Red"] * 9 + ["red"],
        ["red", "blue", "no", "2"],
        ["red", "red", "blue", "no", "2"],
    ],
)
@pytest.mark.parametrize("vocabulary", [VOCABULARY, RAW])
def test_vqa_is_what_the_official_metric_gives_each_answer(given: Sequence[str], vocabulary: AnswerVocabulary) -> None:
    scores = {place: vqa_score(answer, given) for place, answer in enumerate(vocabulary.answers)}
    assert targets_of(given, given[0], vocabulary, "vqa") == {p: score for p, score in scores.items() if score > 0}


@pytest.mark.parametrize("kind", ["vilt", "vqa", "one_hot"])
def test_one_answer_is_wholly_right_however_it_is_written(kind: SoftTargets) -> None:
    assert targets_of(["Red."], "Red.", VOCABULARY, kind) == {2: 1.0}
    assert targets_of([], "Red.", VOCABULARY, kind) == {2: 1.0}
    assert targets_of(["green"], "green", VOCABULARY, kind) == {}
    assert targets_of([], None, VOCABULARY, kind) == {}


def test_two_or_three_answers_are_each_right_as_the_metric_has_it() -> None:
    given = ["Red", "red", "two"]
    expected = {place: 1.0 for place, a in enumerate(VOCABULARY.answers) if vqa_score(a, given) == 1.0}
    assert expected == {0: 1.0, 2: 1.0}
    assert targets_of(given, "Red", VOCABULARY, "vilt") == expected
    assert targets_of(given, "Red", VOCABULARY, "vqa") == expected


def test_a_records_targets_come_from_its_answers_and_its_own_one() -> None:
    ten = [{"answer": text} for text in ["yes"] * 3 + ["no"] * 7]
    question = asked("7", None, answers=ten, multiple_choice_answer="yes")
    assert AnswerTargets(VOCABULARY, "vilt")(question) == {1: 0.9, 3: 1.0}
    assert AnswerTargets(VOCABULARY, "one_hot")(question) == {1: 1.0}
    assert AnswerTargets(VOCABULARY, "vqa")(asked("8", None)) == {}


# Files in VQA v2's form -----------------------------------------------------------------------------------------


def vqa_part(folder: Path, part: str, chosen: Sequence[str], first: int) -> SourceSettings:
    """Questions and annotations of one part; ten answers each: four as chosen, three in capitals, three others."""
    image = picture(folder, part)
    questions, annotations = [], []
    for i, answer in enumerate(chosen):
        ten = [answer] * 4 + [answer.capitalize()] * 3 + ["red", "red", "two"]
        questions.append({"image_id": 1, "question": "what is it?", "question_id": first + i, "image": image.name})
        annotations.append(
            {
                "question_id": first + i,
                "image_id": 1,
                "answer_type": "other",
                "question_type": "what is",
                "multiple_choice_answer": answer,
                "answers": [
                    {"answer": text, "answer_confidence": "yes", "answer_id": n} for n, text in enumerate(ten, 1)
                ],
            }
        )
    paths = folder / f"{part}_questions.json", folder / f"{part}_annotations.json"
    paths[0].write_text(json.dumps({"questions": questions}), encoding="utf-8")
    paths[1].write_text(json.dumps({"annotations": annotations}), encoding="utf-8")
    return SourceSettings(path=str(paths[0]), annotations=str(paths[1]))


def opened(source: SourceSettings) -> ConversationDataset:
    found = open_source(source, prompt=None, system=None, requires_answer=True, check_images=False)
    assert isinstance(found, ConversationDataset)
    return found


def test_vocabulary_and_scores_of_vqa_files_are_those_of_write_vqa(tmp_path: Path) -> None:
    """Expected values by the rules of dandelin/ViLT's write_vqa.py, whose own code was run once to the same result."""
    train = opened(vqa_part(tmp_path, "train", ["two"] * 9 + ["yes"] * 12 + ["red"] * 8 + ["dog"] * 3, 1))
    val = opened(vqa_part(tmp_path, "val", ["red", "the dog", "no"], 101))
    settings = VocabularySettings(least_count=9, source="train_and_val")
    both = build_vocabulary((given.answer for part in (train, val) for given in given_answers(part)), settings)
    assert both.answers == ("2", "yes", "red")  # in the order of first occurrence; yes is more frequent
    alone = build_vocabulary((given.answer for given in given_answers(train)), VocabularySettings(least_count=9))
    assert alone.answers == ("2", "yes")
    vilt, vqa = AnswerTargets(both, "vilt"), AnswerTargets(both, "vqa")
    assert vilt(train[0]) == {2: 0.6}  # "two" five times and "Two": none is the vocabulary's "2"
    assert vqa(train[0]) == pytest.approx({0: 1.0, 2: 0.6})
    assert vilt(train[9]) == {1: 1.0, 2: 0.6}  # "yes" four times, "Yes" three
    assert vilt(train[21]) == {2: 1.0}  # "red" six times
    assert vqa(train[21]) == pytest.approx({0: 0.3, 2: 1.0})
    assert AnswerTargets(alone, "vilt")(val[2]) == {}  # "no", "red": dropped there


def test_the_answers_of_many_records_are_read_in_processes_in_their_order(tmp_path: Path) -> None:
    rows = [{"question": "what is it?", "answers": [str(i), "x"], "answer_type": "other"} for i in range(2100)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = given_answers(opened(SourceSettings(path=str(tmp_path / "rows.jsonl"))))
    assert found == [GivenAnswers(str(i), (str(i), "x")) for i in range(2100)]


# Coverage -------------------------------------------------------------------------------------------------------


def test_the_ceiling_is_the_best_accuracy_that_any_answer_of_the_vocabulary_reaches() -> None:
    references = [
        ["red"] * 10,
        ["green"] * 7 + ["red"] * 2 + ["blue"],
        ["green"] * 10,
        ["Grey", "grey"] * 5,
        ["no", "No"] * 5,
        (),
    ]
    found = coverage(VOCABULARY, references)
    best = [max(vqa_score(answer, given) for answer in VOCABULARY.answers) for given in references if given]
    assert best == [1.0, 0.6, 0.0, 0.0, 1.0]
    assert (found.questions, found.answerable, found.written_otherwise) == (5, 3, 0)
    assert found.ceiling == pytest.approx(sum(best) / 5)
    assert found.outside == (("green", 1), ("grey", 1))
    assert found.words == (
        "5 answers cover 3 of 5 questions (60.0%); VQA accuracy can reach 52.0% at most. "
        "The most common answers outside: 'green' (1), 'grey' (1)."
    )


def test_single_references_count_as_inside_or_outside() -> None:
    found = coverage(VOCABULARY, [["Red"], ["two"], ["green"], ["green"]])
    assert (found.ceiling, found.answerable, found.outside) == (0.5, 2, (("green", 2),))


def test_what_the_official_rule_compares_as_written_is_said() -> None:
    found = coverage(VOCABULARY, [["Yes"] * 10, ["yes"] * 10])
    assert (found.answerable, found.written_otherwise, found.ceiling) == (2, 1, 0.5)
    assert "1 questions have one answer from everybody" in found.words


def test_an_empty_answer_and_an_empty_part_are_said() -> None:
    letters = build_vocabulary("ABCD", VocabularySettings())
    assert letters.answers == ("", "b", "c", "d")
    assert "build the vocabulary with normalize: none" in coverage(letters, [["A"]]).words
    nothing = coverage(VOCABULARY, [(), ()])
    assert (nothing.questions, nothing.ceiling) == (0, None)
    assert "no question here has a reference answer" in nothing.words
