"""Tests of a run's tables, diagrams and panels: they show its answers, in its directory and in TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support import tiny_models
from tests.support.runs import fit, predictions, run_dir, scalars, verb
from vlm_lit.curve_tags import logged_as
from vlm_lit.metrics.calibration import expected_calibration_error, reliability
from vlm_lit.metrics.confusion import Confusion
from vlm_lit.metrics.number import NumberAccuracy
from vlm_lit.metrics.rules import Answer
from vlm_lit.schema import Conversation, Prediction
from vlm_lit.training.callbacks.confusion import draw_confusion
from vlm_lit.training.callbacks.numbers import draw_numbers
from vlm_lit.training.callbacks.panel import draw_panel
from vlm_lit.training.callbacks.pictures import titled, what_was_shown

Config = Callable[..., Path]

LISTED = '--model.init_args.answer_from=["red","blue","yes","no"]'


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Eight questions with answers of two types."""
    rows = []
    for i, (answer, kind) in enumerate([("red", "other"), ("blue", "other"), ("yes", "yes/no"), ("no", "yes/no")] * 2):
        tiny_models.picture(i).save(tmp_path / f"{i}.png")
        talk = [{"from": "human", "value": "<image>\nwhat colour?"}, {"from": "gpt", "value": answer}]
        rows.append({"id": f"q{i}", "image": f"{i}.png", "conversations": talk, "answer_type": kind})
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def after_test(config: Config, questions: Path, *more: str, **data: object) -> Path:
    path = config(data={"test": {"path": str(questions)}, **data})
    assert verb("test", path, *more) == 0
    return run_dir(path)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def pictures(run: Path) -> dict[str, tuple[int, int]]:
    """The pictures in TensorBoard: each one's width and height."""
    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    return {
        logged_as(tag): (events.Images(tag)[-1].width, events.Images(tag)[-1].height) for tag in events.Tags()["images"]
    }


@pytest.mark.slow
def test_every_groups_score_is_a_curve_in_tensorboard(config: Config, questions: Path) -> None:
    path = config(data={"val": {"path": str(questions)}, "test": {"path": str(questions)}})
    fit(path)
    assert verb("test", path, "--ckpt_path", "last") == 0
    curves, results = scalars(run_dir(path)), read(run_dir(path) / "results.json")
    for metric in ("vqa_accuracy", "exact_match"):
        for group in ("other", "yes/no"):
            name = f"{metric}/{group}"
            assert [value for _, value in curves[f"test/{name}"]] == [pytest.approx(results["metrics"][name])]
            # One validation, where the three steps of the run have been made.
            assert [step for step, _ in curves[f"val/{name}"]] == [2]


def test_the_table_counts_the_runs_own_answers(config: Config, questions: Path) -> None:
    run = after_test(config, questions, LISTED)
    table, rows = read(run / "confusion.json"), predictions(run)
    assert (table["split"], table["compared_as"], table["most_answers"]) == ("test", "vqa_accuracy", 20)
    (overall,) = table["tables"]
    assert (overall["group"], overall["n"]) == ("overall", 8)
    for line in overall["rows"]:
        said = [row["prediction"] for row in rows if row["references"] == [line["true"]]]
        assert line["n"] == len(said) == 2
        assert line["predicted"] == {answer: said.count(answer) for answer in ("blue", "no", "red", "yes")}
        assert line["other"] == 0
    with Image.open(run / "confusion.png") as picture:
        assert picture.size == pictures(run)["test/confusion"]


def test_generated_answers_that_are_none_of_the_true_ones_are_counted_as_other(config: Config, questions: Path) -> None:
    run = after_test(config, questions)
    (overall,) = read(run / "confusion.json")["tables"]
    said = [row["prediction"] for row in predictions(run)]
    outside = [text for text in said if text not in ("red", "blue", "yes", "no")]
    assert outside  # an untrained model
    assert overall["others"] == {text: outside.count(text) for text in outside}
    assert sum(line["other"] for line in overall["rows"]) == len(outside)


def test_a_split_of_many_answers_has_a_table_of_each_breakdown_that_has_few(config: Config, questions: Path) -> None:
    run = after_test(config, questions, "--trainer.callbacks+=vlm_lit.training.callbacks.confusion.ConfusionMatrix",
                 "--trainer.callbacks.most_answers=3")  # fmt: skip
    found = read(run / "confusion.json")["tables"]
    assert [(table["group"], table["n"]) for table in found] == [("answer_type/other", 4), ("answer_type/yes/no", 4)]
    assert {"test/confusion/other", "test/confusion/yes/no"} <= pictures(run).keys()


def test_of_many_tables_the_largest_are_drawn_and_all_are_in_the_file(config: Config, tmp_path: Path) -> None:
    rows = []
    for kind in range(13):
        for i in range(2 + (kind == 12)):
            talk = [{"from": "human", "value": "what?"}, {"from": "gpt", "value": f"{kind} {i}"}]
            rows.append({"id": f"{kind} {i}", "conversations": talk, "question_type": f"kind {kind:02}"})
    path = tmp_path / "kinds.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    run = after_test(config, path)
    assert len(read(run / "confusion.json")["tables"]) == 13
    drawn = {name for name in pictures(run) if "confusion" in name}
    assert len(drawn) == 12
    assert "test/confusion/question_type/kind 12" in drawn


def test_a_table_of_an_earlier_test_does_not_stay(config: Config, questions: Path) -> None:
    run = after_test(config, questions, LISTED)
    assert (run / "reliability.json").is_file()
    after_test(config, questions, "--trainer.callbacks+=vlm_lit.training.callbacks.confusion.ConfusionMatrix",
           "--trainer.callbacks.most_answers=1")  # fmt: skip
    assert read(run / "confusion.json")["tables"] == []
    assert not [name for name in ("confusion.png", "reliability.png", "reliability.json") if (run / name).exists()]


@pytest.mark.parametrize(("score", "name"), [("sum", "ece"), ("mean", "ece[answer_score=mean]")])
def test_the_calibration_of_chosen_answers_is_a_metric_a_curve_and_a_diagram(
    score: str, name: str, config: Config, questions: Path
) -> None:
    run = after_test(config, questions, LISTED, f"--model.init_args.answer_score={score}")
    bins = reliability([(row["confidence"], row["score"]) for row in predictions(run)])
    expected = expected_calibration_error(bins)
    assert 0 < expected < 1
    metrics = read(run / "results.json")["metrics"]
    assert next(iter(metrics)) == "vqa_accuracy"  # the leading one, by which runs are compared
    assert metrics[name] == expected
    assert [value for _, value in scalars(run)[f"test/{name}"]] == [pytest.approx(expected)]
    kept = read(run / "reliability.json")
    assert (kept["name"], kept["ece"], kept["score"]) == (name, expected, "vqa_accuracy")
    assert [b["n"] for b in kept["bins"]] == [b.n for b in bins]
    assert sum(b.n for b in bins) == 8
    with Image.open(run / "reliability.png") as picture:
        assert picture.size == pictures(run)[f"test/{name.replace('ece', 'reliability')}"]


def test_generated_answers_have_no_calibration(config: Config, questions: Path) -> None:
    run = after_test(config, questions)
    assert not any("ece" in name for name in read(run / "results.json")["metrics"])
    assert not any("reliability" in name for name in [*pictures(run), *(p.name for p in run.iterdir())])


def second_line(path: Path) -> bool:
    """Whether there is writing where the second line of a title stands, above the axes."""
    with Image.open(path) as picture:
        return int(np.asarray(picture.crop((60, 24, 400, 29))).min()) < 100


def test_pictures_of_a_blind_evaluation_say_so(config: Config, questions: Path) -> None:
    run = after_test(config, questions, LISTED)
    seen = {name: second_line(run / f"{name}.png") for name in ("confusion", "reliability")}
    sizes = pictures(run)
    assert run == after_test(config, questions, LISTED, blind="shuffle")
    blind = {name: second_line(run / f"{name}.png") for name in ("confusion", "reliability")}
    assert (seen, blind) == (dict.fromkeys(seen, False), dict.fromkeys(blind, True))
    (width, height), wider = sizes["test/predictions"], pictures(run)["test/predictions"]
    assert wider == (width, height + 26)  # one line and a margin


@pytest.mark.parametrize(
    ("blind", "says"), [("blank", "grey pictures"), ("shuffle", "other questions' pictures"), ("drop", "no pictures")]
)
def test_a_title_says_what_was_shown(blind: Any, says: str) -> None:
    assert titled("test: n = 8", blind) == f"test: n = 8\nBLIND ({blind}): the model was shown {says}"
    assert (titled("test: n = 8", None), what_was_shown(None)) == ("test: n = 8", "")


@pytest.mark.parametrize(("score", "less", "green"), [(1.0, False, True), (0.0, True, True), (1.0, True, False)])
def test_a_panel_has_the_better_answer_in_green(score: float, less: bool, green: bool) -> None:
    prediction = Prediction(
        id="a", image=None, image_id=None, question="?", references=("b",), prediction="b", score=score, groups={}
    )  # fmt: skip
    drawn = draw_panel([(Conversation(id="a", turns=(), images=()), prediction)], less_is_better=less)
    assert drawn is not None
    red, ink, _ = np.moveaxis(np.asarray(drawn).astype(int), -1, 0)
    assert (ink - red).max() > 50 if green else (red - ink).max() > 50


def test_a_panels_title_is_written_above_its_pictures() -> None:
    conversation = Conversation(id="a", turns=(), images=())
    prediction = Prediction(
        id="a", image=None, image_id=None, question="?", references=("b",), prediction="b", score=1.0, groups={}
    )  # fmt: skip
    plain = draw_panel([(conversation, prediction)])
    titled_one = draw_panel([(conversation, prediction)], title="BLIND (drop): the model was shown no pictures")
    assert plain is not None
    assert titled_one is not None
    header = titled_one.height - plain.height
    assert header > 26  # two lines or more on a panel of one picture
    above, below = (
        titled_one.crop((0, 0, plain.width, header)),
        titled_one.crop((0, header, plain.width, titled_one.height)),
    )
    assert np.asarray(above).min() < 100
    assert np.array_equal(np.asarray(below), np.asarray(plain))


def test_a_table_with_answers_of_any_letters_is_drawn() -> None:
    answers = ("$5 and $6", "猫", "", "a very long answer that no label has the room for")
    counts = tuple(tuple(int(x == y) for x in range(5)) for y in range(4))
    found = Confusion(group="overall", answers=answers, counts=counts, others={})
    picture = draw_confusion(found, "title")
    assert picture.width > 200


COUNTED = '--model.init_args.metrics=[{"name":"exact_match"},{"name":"number","options":{"absolute":1.0}}]'


@pytest.fixture
def counted(questions: Path) -> Path:
    """The questions with numbers for answers, one of them in words."""
    rows = json.loads(questions.read_text())
    for row, answer in zip(rows, ["1", "two", "3", "4", "1", "2", "7", "0"], strict=True):
        row["conversations"][1]["value"] = answer
    questions.write_text(json.dumps(rows))
    return questions


def test_numbers_are_plotted_where_the_metric_reads_them(config: Config, counted: Path) -> None:
    chosen = '--model.init_args.answer_from=["1","2","three","4"]'
    run = after_test(config, counted, COUNTED, chosen)
    with Image.open(run / "numbers.png") as picture:
        assert pictures(run)["test/numbers"] == picture.size
    assert read(run / "results.json")["metrics"]["number[absolute=1.0]/answered"] == 1
    assert verb("test", run.parent / "config.yaml", "--model.init_args.metrics=null", chosen) == 0
    assert not (run / "numbers.png").exists()


def test_answers_without_numbers_are_not_plotted(config: Config, counted: Path) -> None:
    run = after_test(config, counted, COUNTED, LISTED)
    assert "test/numbers" not in pictures(run)
    assert not (run / "numbers.png").exists()


def test_a_dot_stands_for_the_answers_of_a_pair_of_numbers() -> None:
    pairs = [("3", "3")] * 30 + [("4", "3"), ("8", "7"), ("none", "7")]
    answers = [Answer(said, [true], str(place)) for place, (said, true) in enumerate(pairs)]
    picture = draw_numbers(NumberAccuracy(absolute=1.0), answers, "test")
    blue = np.asarray(picture)[:, :, 2].astype(int) - np.asarray(picture)[:, :, 0]
    assert (blue > 60).sum() > 500  # dots were drawn


def test_numbers_of_all_sizes_are_seen_apart() -> None:
    said = {"7": "7", "90": "9", "2000": "1", "60000": "50000", "3": "1e90"}  # the last one is drawn at the edge
    answers = [Answer(prediction, [true], true) for true, prediction in said.items()]
    picture = draw_numbers(NumberAccuracy(), answers, "test")
    blue = np.asarray(picture)[:, :, 2].astype(int) - np.asarray(picture)[:, :, 0]
    columns = (blue > 60).any(axis=0)
    assert (columns[1:] & ~columns[:-1]).sum() >= 4  # dots beside each other, not all at 0
