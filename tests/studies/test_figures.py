"""Tests of F1 and BLEU differences, which are no means, with intervals from the metric itself."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.run_files import row, write_run
from vlm_lit.metrics.catalogue import rule
from vlm_lit.metrics.rules import Answer, judged
from vlm_lit.schema import Prediction
from vlm_lit.studies.comparing.figures import figure_differences
from vlm_lit.studies.run_files.systems import System, open_systems

TRUTH = ["yes", "no", "yes", "yes", "no", "no", "yes", "no"] * 5
FIRST = ["yes", "no", "no", "yes", "yes", "no", "yes", "no"] * 5
SECOND = ["yes", "yes", "yes", "no", "yes", "yes", "yes", "no"] * 5
IDS, CLUSTERS = [f"q{i}" for i in range(40)], [i // 4 for i in range(40)]


def system(metric: str, said: list[str], truth: list[str], **options: object) -> System:
    judge = rule(metric.partition("[")[0], options)
    answers = {
        key: Prediction(
            id=key, image=None, image_id=None, question="?", references=(r,), prediction=p, score=None, groups={}
        )
        for key, p, r in zip(IDS, said, truth, strict=False)
    }
    scores = {key: judge.score(Answer(a.prediction, a.references)) or 0.0 for key, a in answers.items()}
    return System(
        name=metric, path=Path(), answers=answers, scores=scores, image_ids={}, metric=metric, options=options
    )


def f1(said: list[str], truth: list[str]) -> float:
    true = sum(s == t == "yes" for s, t in zip(said, truth, strict=True))
    return 2 * true / (said.count("yes") + truth.count("yes"))


def test_pope_has_f1_precision_and_recall() -> None:
    a, b = system("pope", FIRST, TRUTH), system("pope", SECOND, TRUTH)
    found = {d.name: d for d in figure_differences(a, b, IDS, CLUSTERS, resamples=2_000, seed=1)}
    assert set(found) == {"precision", "recall", "f1"}
    assert (found["f1"].a, found["f1"].b) == pytest.approx((f1(FIRST, TRUTH), f1(SECOND, TRUTH)))
    assert found["f1"].difference == pytest.approx(f1(FIRST, TRUTH) - f1(SECOND, TRUTH))


def test_its_interval_is_that_of_drawing_images_by_hand() -> None:
    random = np.random.default_rng(0)
    truth, first, second = ([str(w) for w in random.choice(["yes", "no"], 40)] for _ in range(3))
    a, b = system("pope", first, truth), system("pope", second, truth)
    found = next(d for d in figure_differences(a, b, IDS, CLUSTERS, resamples=10_000, seed=1) if d.name == "f1")
    drawn = []
    for _ in range(4_000):
        items = [4 * cluster + k for cluster in random.integers(0, 10, 10) for k in range(4)]
        said_a, said_b, said_t = ([words[i] for i in items] for words in (first, second, truth))
        drawn.append(f1(said_a, said_t) - f1(said_b, said_t))
    low, high = np.percentile(drawn, [2.5, 97.5])
    # Four standard errors of a 2.5 % point of 4,000 draws, in units of the draws' own spread.
    assert [found.interval.low, found.interval.high] == pytest.approx([low, high], abs=0.2 * float(np.std(drawn)))


def test_bleu_is_compared_as_the_corpus_figure() -> None:
    truth = ["a red circle on a green ground", "a blue square near the left edge of it"] * 10
    said = ["a red circle on a blue ground", "one blue square near the left edge"] * 10
    a, b = system("bleu", said, truth), system("bleu", truth, truth)
    (found,) = figure_differences(a, b, IDS[:20], CLUSTERS[:20], resamples=500, seed=1)
    judge = rule("bleu")
    counts = [c for p, r in zip(said, truth, strict=True) if (c := judge.counts(Answer(p, (r,)))) is not None]
    assert found.name == "overall"
    assert (found.a, found.b) == pytest.approx((judged(judge, counts)["overall"], 1.0))


def test_a_metric_that_is_a_mean_has_no_figure() -> None:
    a, b = system("exact_match", FIRST, TRUTH), system("exact_match", SECOND, TRUTH)
    assert figure_differences(a, b, IDS, CLUSTERS, resamples=10, seed=1) == []


def test_answers_that_were_not_the_judged_ones_are_not_used() -> None:
    a, b = system("pope", FIRST, TRUTH), system("pope", SECOND, TRUTH)
    b.scores["q3"] = 1 - b.scores["q3"]  # type: ignore[index]
    assert figure_differences(a, b, IDS, CLUSTERS, resamples=10, seed=1) == []


def test_unknown_options_are_not_guessed() -> None:
    a, b = (system("pope[exact]", said, TRUTH) for said in (FIRST, SECOND))
    assert figure_differences(a, b, IDS, CLUSTERS, resamples=10, seed=1) == []
    a, b = (system("pope[exact]", said, TRUTH, parser="exact") for said in (FIRST, SECOND))
    assert {d.name for d in figure_differences(a, b, IDS, CLUSTERS, resamples=10, seed=1)} >= {"f1"}


def test_a_runs_fields_are_shown_by_the_options_in_its_config(tmp_path: Path) -> None:
    truth = ['{"bay": "B3", "row": 2}']
    options: dict[str, object] = {"rules": "bay=text,row=number", "tolerance": 0.1}
    metric = {"name": "json_fields", "options": options}
    runs = []
    for name, rows in (("a", [2, 2, 2]), ("b", [2, 5, 5])):
        lines = [
            row(f"q{i}", 1.0 if number == 2 else 0.5, references=truth, prediction=f'{{"bay": "b3", "row": {number}}}')
            for i, number in enumerate(rows)
        ]
        judge = rule("json_fields", options)
        runs.append(write_run(tmp_path / name, lines, metric=judge.name, metrics=[metric]))
    a, b = open_systems(runs)
    ids = list(a.scores)
    found = {d.name: d for d in figure_differences(a, b, ids, ids, resamples=500, seed=1)}
    assert [found["field/row"].a, found["field/row"].b] == pytest.approx([1.0, 1 / 3])
    assert found["field/bay"].difference == 0
    other = write_run(tmp_path / "c", lines, metric=judge.name, metrics=[{"name": "json_fields", "options": {}}])
    (c,) = open_systems([other])  # a config that was changed since says nothing of how these were judged
    assert figure_differences(c, c, ids, ids, resamples=500, seed=1) == []
