"""Is what a model answers judged by the metrics that were asked for, and logged under their names?"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from runs import predictions, run_dir, verb

from vlm_lit.metrics.catalogue import MetricSettings
from vlm_lit.schema import ConfigError, Prediction
from vlm_lit.training.evaluation import Evaluation

Config = Callable[..., Path]


def answers(*pairs: tuple[str, str | None]) -> list[Prediction]:
    """Answers `a`, `b`, ... with their reference, all of them numbers to their answer type."""
    return [
        Prediction(
            id="abcdef"[i], image=None, image_id=None, question="?", references=() if right is None else (right,),
            prediction=text, score=None, groups={"answer_type": "number", "category": "popular"},
        )
        for i, (text, right) in enumerate(pairs)
    ]  # fmt: skip


def finished(
    metrics: Sequence[MetricSettings | str] | None, *pairs: tuple[str, str | None]
) -> tuple[list[float | None], dict[str, float]]:
    evaluation = Evaluation(metrics)
    for answer in answers(*pairs):
        evaluation.add([answer])
    judged, values = evaluation.finish()
    return [p.score for p in judged], values


def test_vqa_accuracy_leads_unless_asked_otherwise() -> None:
    scores, values = finished(None, ("2", "2"), ("3", "2"))
    assert scores == [1.0, 0.0]
    assert values == {
        "vqa_accuracy": 0.5,
        "vqa_accuracy/number": 0.5,
        "vqa_accuracy/category/popular": 0.5,
        "exact_match": 0.5,
        "exact_match/number": 0.5,
        "exact_match/category/popular": 0.5,
    }


def test_vqa_v2_is_logged_as_vqa_accuracy() -> None:
    assert finished(["vqa_v2"], ("2", "2"))[1]["vqa_accuracy"] == 1.0


def test_the_first_metric_gives_an_answer_its_score() -> None:
    metrics = [MetricSettings("chartqa_relaxed"), MetricSettings("exact_match", {"ignore_case": True})]
    scores, values = finished(metrics, ("100", "104"), ("Red", "red"), ("Red", None))
    assert scores == [1.0, 1.0, None]
    assert (values["chartqa_relaxed"], values["exact_match[ignore_case]"]) == (1.0, 0.5)


def test_a_metric_of_several_values_logs_each() -> None:
    _, values = finished(["pope", "answer_length"], ("yes", "yes"), ("no", "yes"))
    assert values["pope"] == values["pope/accuracy"] == values["pope/recall"] == 0.5
    assert values["pope/f1"] == values["pope/category/popular/f1"] == pytest.approx(2 / 3)
    assert values["pope/number/recall"] == 0.5
    assert values["answer_length/ratio"] == 1.0


def test_answers_without_references_are_kept_unjudged() -> None:
    assert finished(None, ("2", None)) == ([None], {})


def test_letters_do_for_multiple_choice_where_no_choices_are_known() -> None:
    scores, values = finished(["multiple_choice"], ("(B)", "B"), ("B. green", "B"))
    assert scores == [1.0, 0.0]
    assert values["multiple_choice[extractor=mmmu]/unparsed"] == 0.5


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ([], "metrics is empty"),
        (["anls", "anls"], "anls is asked for twice"),
        (["vqa_v2", "vqa_accuracy"], "vqa_accuracy is asked for twice"),
        (["answer_length", "anls"], "answer_length comes first, yet no answer has a score by it"),
        (["anlz"], "There is no metric 'anlz'"),
    ],
)
def test_refusals(metrics: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Evaluation(metrics)


def test_metrics_are_a_setting(config: Config) -> None:
    metrics = [{"name": "anls"}, {"name": "exact_match", "options": {"ignore_case": True}}]
    path = config(model={"metrics": metrics})
    assert verb("test", path) == 0
    found = json.loads((run_dir(path) / "results.json").read_text())["metrics"]
    assert {name.partition("/")[0] for name in found} == {"anls", "exact_match[ignore_case]"}
    scores = [row["score"] for row in predictions(run_dir(path))]
    assert found["anls"] == pytest.approx(sum(scores) / len(scores))


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ([{"name": "anlz"}], "There is no metric 'anlz'. Did you mean 'anls'?"),
        ([{"name": "pope", "options": {"parser": "exakt"}}], "Did you mean exact?"),
        ([{"name": "answer_length"}], "Name another one first."),
    ],
)
def test_a_metric_that_cannot_be_is_refused_before_anything_is_written(
    metrics: list[dict[str, object]], says: str, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(model={"metrics": metrics})
    assert verb("fit", path) == 2
    shown = capsys.readouterr().err
    assert says in shown.splitlines()[-1]
    assert "Loading weights" not in shown
    assert not run_dir(path).exists()
