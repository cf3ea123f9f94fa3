"""Tests of systems to compare: run directories and score files, named apart, aligned or refused."""

import json
from pathlib import Path

import pytest

from tests.support.run_files import row, rows, write_run, write_scores
from vlm_lit.errors import VlmLitError
from vlm_lit.studies.comparing.alignment import align
from vlm_lit.studies.run_files.systems import distinct_names, open_systems


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/base", "runs/tuned"], ["base", "tuned"]),
        (["base/vqa", "tuned/vqa"], ["base", "tuned"]),
        (["a/x/1", "b/x/1", "b/y/2"], ["a/x/1", "b/x/1", "b/y/2"]),
        (["runs/a/scores.json", "runs/b/scores.json"], ["a", "b"]),
        (["runs/pope-a.json", "runs/pope-b.json"], ["pope-a", "pope-b"]),
        (["runs/a", "runs/a"], ["a (1)", "a (2)"]),
    ],
)
def test_names_are_the_folders_that_tell_systems_apart(paths: list[str], names: list[str]) -> None:
    assert distinct_names([Path(path) for path in paths]) == names


def test_a_run_directory_with_its_facts(tmp_path: Path) -> None:
    (system,) = open_systems([write_run(tmp_path / "tuned", rows([1, 0.3]), max_new_tokens=16, seed=7)])
    assert (system.name, system.metric, dict(system.scores)) == ("tuned", "vqa_accuracy", {"q0": 1, "q1": 0.3})
    shown = system.facts.shown
    assert (shown["model"], shown["optimizer steps"], shown["seed"], shown["max new tokens"]) == (
        "llava",
        "9",
        "7",
        "16",
    )
    assert shown["software"] == "torch 2.13"


def test_a_validated_run_is_taken_where_there_was_no_test(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("q0", 1.0)], name="val_predictions.jsonl")
    (folder / "results.json").rename(folder / "val_results.json")
    (system,) = open_systems([folder])
    assert (list(system.answers), system.metric) == (["q0"], "vqa_accuracy")


def test_a_score_file(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "tuned.json", {"q0": 1.0, "q1": 0.5}, unparsed=3)
    (system,) = open_systems([path])
    assert (system.name, system.metric, system.overall, system.unparsed) == ("tuned", "vqa_accuracy", 0.75, 3)
    assert dict(system.answers) == {}


def test_a_score_file_in_a_run_directory_brings_its_answers(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rows([1, 0]))
    (system,) = open_systems([write_scores(folder / "scores.json", {"q0": 0.0, "q1": 0.5})])
    assert list(system.answers) == ["q0", "q1"]
    assert dict(system.scores) == {"q0": 0.0, "q1": 0.5}
    (system,) = open_systems([write_scores(folder / "scores.json", {"q0": 0.0})])
    assert dict(system.answers) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "the text ends too early"),
        ("[]", "is not what the verb score writes.*found list"),
        ('{"metric": "x"}', "needs|has the keys"),
        ('{"per_item": {"q1": 1, "q1": 0}}', "'q1' stands twice"),
    ],
)
def test_a_broken_score_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(VlmLitError, match=rf"scores\.json: .*({message})"):
        open_systems([path])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"per_item": {"q0": 57}}, "per_item"),
        ({"per_item": {"q0": float("nan")}}, "per_item"),
        ({"per_item": {"q0": True}}, "per_item"),
        ({"per_item": {}}, "no score of any item"),
        ({"image_ids": {"q0": 3}}, "image_ids"),
        ({"image_ids": {"q9": "cat"}}, "image_ids names 'q9'"),
        ({"overall": "55"}, "overall"),
        ({"metric": None}, "metric"),
        ({"options": []}, "options"),
        ({"unparsed": -1}, "unparsed"),
    ],
)
def test_a_wrong_value_in_a_score_file_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_scores(tmp_path / "scores.json", {"q0": 1.0}, **change)
    with pytest.raises(VlmLitError, match=message):
        open_systems([path])


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VlmLitError, match=r"holds neither predictions\.jsonl nor val_predictions\.jsonl"):
        open_systems([tmp_path])
    with pytest.raises(VlmLitError, match="nowhere: is not a run directory"):
        open_systems([tmp_path / "nowhere"])
    with pytest.raises(VlmLitError, match=r"nowhere\.json: there is no such file"):
        open_systems([tmp_path / "nowhere.json"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("results.json", "{", "the text ends too early"),
        ("config.yaml", "a: [", "A config file is plain data"),
        ("config.yaml", "\x07", "A config file is plain data"),
    ],
)
def test_broken_files_beside_are_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    folder = write_run(tmp_path / "run", rows([1, 0]))
    (folder / name).write_text(content)
    with pytest.raises(VlmLitError, match=rf"{name}[:,] .*{says}"):
        open_systems([folder])


def test_names_must_fit(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows([1, 0]))
    with pytest.raises(VlmLitError, match="1 names for 2 systems"):
        open_systems([run, run], ["a"])
    with pytest.raises(VlmLitError, match="must differ"):
        open_systems([run, run], ["a", "a"])


def test_items_stand_side_by_side_by_id(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", rows([1, 0, 0.3]))
    b = write_run(tmp_path / "b", rows([0, 0.6, 1])[::-1])
    items = align(open_systems([a, b])).items
    assert [(item.id, item.scores) for item in items] == [("q0", (1, 0)), ("q1", (0, 0.6)), ("q2", (0.3, 1))]
    assert [item.cluster for item in items] == [("image_id", "image 0")] * 2 + [("image_id", "image 1")]


def test_other_ids_are_refused_or_left_out_on_request(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", rows([1, 0, 0.3])), write_run(tmp_path / "b", [*rows([0, 1]), row("q9", 1)])
    systems = open_systems([a, b])
    with pytest.raises(VlmLitError, match=r"a and b were not asked the same: 3 and 3 items, 2 ids .*'q2'.*--intersect"):
        align(systems)
    aligned = align(systems, intersect=True)
    assert ([item.id for item in aligned.items], aligned.dropped) == (["q0", "q1"], 2)


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", [row("x", 1)]), write_run(tmp_path / "b", [row("y", 1)])
    with pytest.raises(VlmLitError, match="a, b have no id in common"):
        align(open_systems([a, b]), intersect=True)


def test_other_references_are_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", rows([1, 0]))
    b = write_run(tmp_path / "b", [rows([1])[0], row("q1", 0, references=["blue"])])
    for intersect in (False, True):
        with pytest.raises(VlmLitError, match=r"judged 'q1' by different references: \['red'\] and \['blue'\]"):
            align(open_systems([a, b]), intersect=intersect)


def test_a_run_that_was_not_judged_may_have_no_references(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [row("q0", None, references=[])])
    b = write_run(tmp_path / "b", [row("q0", 1)])
    assert align(open_systems([a, b])).items[0].references == ("red",)


def test_other_metrics_are_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [row("q0", 1)])
    b = write_run(tmp_path / "b", [row("q0", 1)], metric="vqa_accuracy[normalize=always]")
    with pytest.raises(VlmLitError, match=r"judged differently: vqa_accuracy and vqa_accuracy\[normalize=always\]"):
        align(open_systems([a, b]))
    scored = write_scores(tmp_path / "c.json", {"q0": 1.0})
    assert align(open_systems([a, scored])).items[0].scores == (1, 1.0)
    other = write_scores(tmp_path / "d.json", {"q0": 1.0}, options={"normalize": "always"})
    with pytest.raises(VlmLitError, match=r"vqa_accuracy \(normalize=official\) and vqa_accuracy \(normalize=always\)"):
        align(open_systems([scored, other]))


def test_the_image_is_told_by_id_then_path_then_item(tmp_path: Path) -> None:
    lines = [
        row("a", 1, image="cat.png", image_id="7"),
        row("b", 1, image="cat.png", image_id=None),
        row("c", 1, image="<image held in the record>", image_id=None),
    ]
    run = write_run(tmp_path / "run", lines)
    items = align(open_systems([run, run])).items
    assert [item.cluster for item in items] == [("image_id", "7"), ("image", "cat.png"), ("id", "c")]
    assert [item.images for item in items] == [("cat.png",), ("cat.png",), ()]


def test_a_repeated_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VlmLitError, match="line 2: the id 'q0' already stands on line 1"):
        open_systems([write_run(tmp_path / "a", [row("q0", 1), row("q0", 1)])])


def test_the_newest_evaluations_config_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows([1]))
    (run / "config.test.yaml").write_text(json.dumps({"seed_everything": 99}))
    assert open_systems([run])[0].facts.shown["seed"] == "99"
