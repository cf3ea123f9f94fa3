"""Tests of evaluation: answers are judged by the metrics asked for, and logged under their names."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch.distributed as dist

from tests.support.runs import predictions, run_dir, verb
from vlm_lit.data.rank_share import RankShare
from vlm_lit.errors import ConfigError
from vlm_lit.metrics.catalogue import MetricSettings
from vlm_lit.metrics.confusion import Confusion, confusions
from vlm_lit.schema import Prediction
from vlm_lit.training.evaluation import Evaluation, answer_of
from vlm_lit.training.ranks import Ranks, ReplicatedRanks
from vlm_lit.training.supervised import SupervisedModule

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
    judged, values = evaluation.finish(Ranks())
    return [p.score for p in judged], values


def test_vqa_accuracy_leads_unless_asked_otherwise() -> None:
    evaluation = Evaluation()
    evaluation.add([replace(answer, references=("2", "2.")) for answer in answers(("2", "2"), ("3", "2"))])
    judged, values = evaluation.finish(Ranks())
    assert evaluation.leading.name == "vqa_accuracy"
    assert [p.score for p in judged] == [1.0, 0.0]
    assert values == {
        "vqa_accuracy": 0.5,
        "vqa_accuracy/number": 0.5,
        "vqa_accuracy/category/popular": 0.5,
        "exact_match": 0.5,
        "exact_match/number": 0.5,
        "exact_match/category/popular": 0.5,
    }


SPELLED = (("Blue.", "blue"), ("yes", "Yes"), ("two", "2"), ("left", "right"))


def test_the_normalised_metric_leads_where_no_question_has_more_than_one_reference() -> None:
    scores, values = finished(None, *SPELLED)
    assert scores == [1.0, 1.0, 1.0, 0.0]
    named = {name: value for name, value in values.items() if "/" not in name}
    assert list(named) == ["vqa_accuracy[normalize=always]", "vqa_accuracy", "exact_match"]
    assert named == {"vqa_accuracy[normalize=always]": 0.75, "vqa_accuracy": 0.0, "exact_match": 0.0}
    scores, values = finished(["vqa_accuracy"], *SPELLED)
    assert scores == [0.0] * 4
    assert "vqa_accuracy[normalize=always]" not in values


def test_one_question_of_several_references_keeps_the_official_metric_for_all() -> None:
    evaluation = Evaluation()
    first, *others = answers(*SPELLED)
    evaluation.add(others)
    evaluation.add([replace(first, references=("blue", "blue"))])
    judged, values = evaluation.finish(Ranks())
    assert evaluation.leading.name == "vqa_accuracy"
    assert [p.score for p in judged] == [0.0] * 4
    assert "vqa_accuracy[normalize=always]" not in values


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


def test_choices_reach_the_metrics() -> None:
    evaluation = Evaluation(["multiple_choice"])
    (answer,) = answers(("I am sure that it is dark green", "B"))
    evaluation.add([replace(answer, choices=("red", "dark green"))])
    (judged,), values = evaluation.finish(Ranks())
    assert (judged.score, values["multiple_choice[extractor=mmmu]"]) == (1.0, 1.0)
    assert judged.choices == ("red", "dark green")


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


# Calibration ---------------------------------------------------------------------------------------------------------


def sure(name: str, confidence: float | None, text: str = "a", right: str | None = "a") -> Prediction:
    return Prediction(
        id=name, image=None, image_id=None, question="?", references=() if right is None else (right,),
        prediction=text, score=None, groups={}, confidence=confidence,
    )  # fmt: skip


CHOSEN = [sure("1", 0.55), sure("2", 0.95), sure("3", 0.95, "b"), sure("4", 0.9, "b", None), sure("5", None)]


def test_the_calibration_error_is_of_the_judged_answers_that_have_a_confidence() -> None:
    evaluation = Evaluation()
    evaluation.add(CHOSEN)
    _, values = evaluation.finish(Ranks())
    # 0.55 right: 0.45 of one; 0.95 right and wrong: |0.5 - 0.95| of two.
    assert values["ece"] == pytest.approx(0.45)
    assert list(values) == ["vqa_accuracy[normalize=always]", "vqa_accuracy", "exact_match", "ece"]
    assert [p.confidence for p in evaluation.predictions] == [0.55, 0.95, 0.95, 0.9, None]


def test_shares_of_means_per_token_are_called_so() -> None:
    chosen = ["a", "b"]
    assert SupervisedModule("base", answer_from=chosen, answer_score="mean").calibration == "ece[answer_score=mean]"
    assert SupervisedModule("base", answer_from=chosen).calibration == SupervisedModule("base").calibration == "ece"
    assert Evaluation(None, "ece[answer_score=mean]").ece_name == "ece[answer_score=mean]"


def test_there_is_no_calibration_error_without_confidences() -> None:
    assert "ece" not in finished(None, ("2", "2"))[1]


WORLD_SIZE = 2
SEVERAL = replace(sure("6", 0.5), references=("a", "b"))
SHARDS = {
    "repeated": ([CHOSEN[0], CHOSEN[2], CHOSEN[4]], [CHOSEN[1], CHOSEN[3], CHOSEN[0]]),
    "a rank without questions": (CHOSEN, []),
    "several references on one rank": (CHOSEN, [SEVERAL]),
}


Found = tuple[list[Prediction], dict[str, float], list[Confusion]]


def on_one_rank(mine: list[Prediction], ranks: Ranks = Ranks()) -> Found:  # noqa: B008
    evaluation = Evaluation()
    for prediction in mine:
        evaluation.add([prediction])
    predictions, values = evaluation.finish(ranks)
    return predictions, values, confusions(evaluation.leading.rule, map(answer_of, predictions))


def on_each_rank(rank: int, store: str) -> dict[str, Found]:
    warnings.simplefilter("error")
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD_SIZE, timeout=timedelta(seconds=60)
    )
    found = {
        name: on_one_rank(shards[rank], ReplicatedRanks(RankShare(rank, WORLD_SIZE))) for name, shards in SHARDS.items()
    }
    dist.destroy_process_group()
    return found


@pytest.mark.slow
def test_two_ranks_have_the_values_and_the_table_of_one(tmp_path: Path) -> None:
    with ProcessPoolExecutor(WORLD_SIZE, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(on_each_rank, range(WORLD_SIZE), [str(tmp_path / "store")] * WORLD_SIZE))
    expected = on_one_rank(CHOSEN)
    assert expected[2][0].counts == ((3, 1),)
    official = on_one_rank([CHOSEN[0], SEVERAL, *CHOSEN[1:]])  # the ranks' questions were dealt out in turn
    assert (next(iter(expected[1])), next(iter(official[1]))) == ("vqa_accuracy[normalize=always]", "vqa_accuracy")
    for found in results:
        assert found == {**dict.fromkeys(SHARDS, expected), "several references on one rank": official}
