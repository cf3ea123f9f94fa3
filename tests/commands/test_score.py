"""Tests of `score`: files judged as the benchmarks do, results that others read, broken files refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import vlm_lit.metrics
from tests.support.refusals import refusal
from tests.support.vqa_files import write_vqa
from vlm_lit.cli import main
from vlm_lit.metrics.catalogue import RULES, said_options
from vlm_lit.schema import Prediction

Capture = pytest.CaptureFixture[str]


def write_lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def vqa(tmp_path: Path) -> list[str]:
    """The arguments that name a VQA result file, its annotations and its questions."""
    return write_vqa(tmp_path)


@pytest.fixture
def scored(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs `score` and returns what it wrote."""

    def run(metric: str, *arguments: str) -> dict[str, Any]:
        output = tmp_path / "deep" / "scores.json"
        assert main(["score", "--metric", metric, "--output", str(output), *arguments]) == 0
        assert [path.name for path in output.parent.iterdir()] == ["scores.json"]
        written: dict[str, Any] = json.loads(output.read_text())
        return written

    return run


def test_vqa_v2_files(scored: Callable[..., dict[str, Any]], vqa: list[str]) -> None:
    assert scored("vqa_v2", *vqa) == {
        "metric": "vqa_accuracy",
        "options": {"normalize": "official", "aggregation": "leave_one_out", "prediction_processor": "none"},
        "overall": pytest.approx(130 / 3),
        "details": {},
        "groups": {
            "answer_type": {
                "number": {"score": 100.0, "n": 1},
                "other": {"score": 30.0, "n": 1},
                "yes/no": {"score": 0.0, "n": 1},
            },
            "question_type": {
                "how many": {"score": 100.0, "n": 1},
                "is the": {"score": 0.0, "n": 1},
                "what color": {"score": 30.0, "n": 1},
            },
        },
        "n": 3,
        "unparsed": 0,
        "references": {"min": 10, "mean": 10.0, "max": 10},
        "misses": {"n": 1, "case": 1, "full_stop": 0, "article": 0, "number_word": 0, "any_of_these": 1},
        "per_item": {"7": 0.0, "8": 1.0, "9": 0.3},
        "image_ids": {"7": "3", "8": "4", "9": "4"},
    }


@pytest.mark.parametrize("option", [["--options.normalize", "always"], ["--options.normalize=always"]])
def test_options_change_the_metric_and_are_written(
    scored: Callable[..., dict[str, Any]], vqa: list[str], option: list[str]
) -> None:
    found = scored("vqa_v2", *vqa, *option)
    assert found["metric"] == "vqa_accuracy[normalize=always]"
    assert found["options"]["normalize"] == "always"
    assert found["per_item"]["7"] == 1.0


@pytest.mark.parametrize(
    ("metric", "option", "text", "value"),
    [
        ("number", "relative", "0.05", 0.05),
        ("number", "absolute", "1", 1),
        ("number", "absolute", "1e-3", 0.001),
        ("number", "several", "last", "last"),
        ("json_fields", "tolerance", ".1", 0.1),
        ("json_fields", "rules", "2024=text", "2024=text"),
        ("exact_match", "ignore_case", "True", True),
        ("multiple_choice", "seed", "3", 3),
        ("chair", "objects", "5", "5"),  # a file's name, which is text
    ],
)
def test_an_option_has_the_type_that_its_metric_declares(metric: str, option: str, text: str, value: object) -> None:
    found = said_options(metric, {option: text})[option]
    assert (found, type(found)) == (value, type(value))


def test_the_command_that_the_metrics_readme_shows_runs(
    scored: Callable[..., dict[str, Any]], tmp_path: Path, capsys: Capture
) -> None:
    readme = (Path(vlm_lit.metrics.__file__).parent / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"`score --metric (number .*?)`", readme)
    assert shown is not None
    rows = [{"id": i, "prediction": said, "references": ["100"]} for i, said in enumerate(("96", "94"))]
    records = ["--records", str(write_lines(tmp_path / "r.jsonl", rows))]
    assert scored(*shown[1].split(), *records)["per_item"] == {"0": 1.0, "1": 0.0}
    arguments = ["--metric", "number", "--output", str(tmp_path / "o.json"), *records]
    for text in ("wide", "0x5", "1_0", "nan"):
        error = refusal(capsys, "score", *arguments, "--options.relative", text)
        assert f"number: relative is {text!r}; it must be a number." in error


def test_the_table_is_printed(scored: Callable[..., dict[str, Any]], vqa: list[str], capsys: Capture) -> None:
    scored("vqa_v2", *vqa)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["vqa_accuracy", "n", "%"]
    assert shown[1].split() == ["overall", "3", "43.33"]
    assert ["answer_type/yes/no", "1", "0.00"] in [line.split() for line in shown]
    assert shown[-1].startswith("Written to ")


POPE_ROWS = [
    {"id": i, "prediction": p, "references": [r], "image_id": i // 2, "groups": {"category": c}}
    for i, (p, r, c) in enumerate(
        [("yes", "yes", "random"), ("no", "yes", "random"), ("yes", "no", "popular"), ("no.", "no", "popular")]
    )
]


def test_pope_from_records(scored: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    found = scored("pope", "--records", str(write_lines(tmp_path / "pope.jsonl", POPE_ROWS)))
    assert found["overall"] == 50.0
    whole = {name: found["details"][name] for name in ("accuracy", "precision", "recall", "f1", "yes_ratio")}
    assert whole == dict.fromkeys(whole, 50.0)
    assert found["details"]["category/random/recall"] == 50.0
    assert found["details"]["f1/mean_over_category"] == pytest.approx((200 / 3 + 0) / 2)
    assert found["groups"] == {
        "category": {"popular": {"score": 50.0, "n": 2}, "random": {"score": 50.0, "n": 2}},
    }
    exact = scored("pope", "--records", str(tmp_path / "pope.jsonl"), "--options.parser", "exact")
    assert (exact["unparsed"], exact["details"]["unparsed"], exact["overall"]) == (1, 25.0, 25.0)


def test_multiple_choice_with_choices(scored: Callable[..., dict[str, Any]], tmp_path: Path, capsys: Capture) -> None:
    choices = ["red", "green"]
    replies = ["I am sure that it is green", "A. red", "?"]
    rows = [{"id": f"q{i}", "prediction": p, "references": ["B"], "choices": choices} for i, p in enumerate(replies)]
    (tmp_path / "mc.json").write_text(json.dumps(rows))
    found = scored("multiple_choice", "--records", str(tmp_path / "mc.json"))
    assert found["per_item"] == {"q0": 1.0, "q1": 0.0, "q2": 0.0}
    assert found["unparsed"] == 2
    assert "2 unparsed" in capsys.readouterr().out.splitlines()
    options = ["--options.extractor", "scienceqa_llava", "--options.fallback", "random", "--options.seed", "3"]
    found = scored("multiple_choice", "--records", str(tmp_path / "mc.json"), *options)
    assert found["metric"] == "multiple_choice[extractor=scienceqa_llava,fallback=random,seed=3]"
    assert found["unparsed"] == 2


def test_a_runs_own_predictions(scored: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    predictions = [
        Prediction(
            id=name, image=f"{name}.png", image_id=image_id, question="?", references=("red",), prediction=text,
            score=0.0, groups={"answer_type": "other"},
        )
        for name, image_id, text in (("a", "img", "Red"), ("b", None, "blue"))
    ]  # fmt: skip
    path = write_lines(tmp_path / "predictions.jsonl", [asdict(p) for p in predictions])
    found = scored("exact_match", "--records", str(path), "--options.ignore_case", "true")
    assert found["per_item"] == {"a": 1.0, "b": 0.0}
    assert found["image_ids"] == {"a": "img", "b": "b.png"}
    assert found["options"] == {"ignore_case": True, "ignore_punctuation": False, "ignore_articles": False}


def test_lmms_evals_samples(scored: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    rows = [
        {"doc_id": 0, "input": "?", "target": "red", "filtered_resps": ["Red"], "resps": [["Red\n"]], "doc_hash": "x"},
        {"doc_id": 1, "input": "?", "target": "red", "resps": [["red"]], "exact_match": 1.0},
        {"doc_id": 2, "input": "?", "target": ["blue", "red"], "filtered_resps": "red", "doc_hash": "y"},
    ]
    found = scored("exact_match", "--records", str(write_lines(tmp_path / "samples.jsonl", rows)))
    assert found["per_item"] == {"0": 0.0, "1": 1.0, "2": 1.0}


def test_answer_length_is_no_percentage(scored: Callable[..., dict[str, Any]], tmp_path: Path, capsys: Capture) -> None:
    rows = [{"id": 1, "prediction": "one two", "references": ["one"], "groups": {"kind": "x"}}]
    found = scored("answer_length", "--records", str(write_lines(tmp_path / "r.jsonl", rows)))
    assert (found["overall"], found["per_item"]) == (None, {})
    assert found["groups"] == {"kind": {"x": {"score": None, "n": 1}}}
    assert found["details"]["ratio"] == found["details"]["kind/x/ratio"] == 2.0
    assert ["prediction_words", "2.00"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_items_a_metric_leaves_out_are_counted(
    scored: Callable[..., dict[str, Any]], tmp_path: Path, capsys: Capture
) -> None:
    rows = [
        {"id": i, "prediction": "red", "references": ["red"] * 3, "groups": {"difficult_direct_answer": flag}}
        for i, flag in enumerate(["true", "false"])
    ]
    path = write_lines(tmp_path / "r.jsonl", rows)
    found = scored("aokvqa", "--records", str(path))
    assert (found["n"], found["overall"], found["per_item"]) == (1, 100.0, {"1": 1.0})
    assert "1 left out by this metric" in capsys.readouterr().out.splitlines()
    write_lines(path, rows[:1])
    arguments = ("--metric", "aokvqa", "--output", str(tmp_path / "o.json"), "--records", str(path))
    assert "leaves out all 1 items" in refusal(capsys, "score", *arguments)


def test_ids_and_groups_may_be_any_text(scored: Callable[..., dict[str, Any]], tmp_path: Path, capsys: Capture) -> None:
    strange = "\u00e9\u2028 \x1b[31m\n"
    rows = [{"id": strange, "prediction": "x", "references": ["x"], "groups": {"kind": strange}}]
    found = scored("exact_match", "--records", str(write_lines(tmp_path / "r.jsonl", rows)))
    assert found["per_item"] == {strange: 1.0}
    assert "\x1b" not in capsys.readouterr().out


def test_nothing_that_loads_models_is_imported(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", POPE_ROWS)
    code = "import sys; from vlm_lit.cli import main; main(sys.argv[1:]); print('modules', *sys.modules)"
    arguments = ["score", "--metric", "pope", "--output", str(tmp_path / "o.json"), "--records", str(path)]
    shown = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    modules = set(shown.stdout.splitlines()[-1].split())
    assert "vlm_lit.commands.score" in modules
    assert not {"torch", "torchmetrics", "transformers", "peft", "bitsandbytes", "lightning", "PIL"} & modules


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--metric must be given."),
        (["--metric", "anls"], "--output must be given."),
        (["--metrc", "anls"], "Did you mean --metric?"),
        (["--metric", "anlz", "--output", "o"], "There is no metric 'anlz'. Did you mean 'anls'?"),
        (["--metric", "anls", "--output", "o"], "give either --records, or --predictions and --annotations."),
        (["--metric", "anls", "--output", "o", "--predictions", "p"], "give either --records, or --predictions and"),
        (
            ["--metric", "anls", "--output", "o", "--records", "r", "--questions", "q"],
            "--records is a file of its own and cannot go with --questions.",
        ),
        (["--metric", "anls", "--output", "o", "--records", "./o"], "--output o would overwrite what is to be judged."),
        (["--metric", "anls", "--output", "o", "--records", "gone.jsonl"], "gone.jsonl: no such file."),
        (["--metric", "anls", "--options.whitespac", "strip", "--output", "o"], "Did you mean 'whitespace'?"),
        (["--metric", "anls", "--options.whitespace", "no", "--output", "o"], "it must be one of collapse, strip."),
        (["--metric", "anls", "--options.whitespace", "--output", "o"], "--options.whitespace has no value."),
        (["--options.a=1", "--options.a=2", "--metric", "anls", "--output", "o"], "--options.a is given twice."),
    ],
)
def test_refused_arguments(
    arguments: list[str], says: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refusal(capsys, "score", *arguments)
    assert not list(tmp_path.iterdir())


GOOD = {"id": "a", "prediction": "red", "references": ["red"]}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prediction": "red"}, "record 1: it has no id; there is prediction. Give every record its id."),
        ({**GOOD, "id": None}, "record 1: id is null. Write a text or a whole number."),
        ({**GOOD, "id": True}, "record 1: id is true."),
        ({**GOOD, "id": ""}, 'record 1: id is "".'),
        (GOOD, "record 1 (id a): the id a stands there twice. Give every record an id of its own"),
        ({"id": 3, "references": []}, "record 1 (id 3): it has no prediction; there is id, references."),
        ({**GOOD, "id": 3, "prediction": None}, "record 1 (id 3): prediction is null. It must be text."),
        ({**GOOD, "id": 3, "prediction": True}, "prediction is true. It must be text."),
        ({**GOOD, "id": 3, "references": None}, "references is null. It must be a list of texts."),
        ({**GOOD, "id": 3, "references": [True]}, "references is [true]. It must be a list of texts."),
        ({**GOOD, "id": 3, "references": [["a"]]}, 'references is [["a"]]. It must be a list of texts.'),
        ({**GOOD, "id": 3, "references": []}, "record 1 (id 3): Exact match needs at least one reference answer"),
        ({**GOOD, "id": 3, "choices": {"A": "B"}}, 'choices is {"A": "B"}. It must be a list of texts.'),
        ({**GOOD, "id": 3, "groups": {"a": 1}}, 'groups is {"a": 1}. It must be a mapping of names to texts.'),
        ({**GOOD, "id": 3, "image_id": 1.5}, "image_id is 1.5. Write a text or a whole number."),
        ([1], "expected an object, found list."),
    ],
)
def test_refused_records(row: object, problem: str, capsys: Capture, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [GOOD, row])
    output = tmp_path / "o.json"
    error = refusal(capsys, "score", "--metric", "exact_match", "--output", str(output), "--records", str(path))
    assert error.startswith(f"error: {path}, record 1")
    assert problem in error
    assert not output.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty."),
        (b'{"id": 1, "prediction": "x"', "record 0 (line 1, column 28): the text ends too early."),
        (b'{"id": 1, "prediction": "\xff", "references": ["x"]}', "is not UTF-8. Save the file as UTF-8."),
        (b'{"id": 1, "id": 2}', "the key 'id' stands twice in one object."),
    ],
)
def test_refused_files(content: bytes, problem: str, capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    error = refusal(capsys, "score", "--metric", "anls", "--output", str(tmp_path / "o.json"), "--records", str(path))
    assert error.startswith(f"error: {path}")
    assert problem in error


def test_refused_samples(capsys: Capture, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "s.jsonl", [{"doc_id": 0, "target": "x", "filtered_resps": ["a", "b"]}])
    arguments = ("--metric", "anls", "--output", str(tmp_path / "o.json"), "--records", str(path))
    assert 'record 0 (doc_id 0): filtered_resps is ["a", "b"]. It must hold one reply.' in refusal(
        capsys, "score", *arguments
    )


def test_help_lists_metrics_and_options(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["score", "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    _, _, metrics = shown.partition("metrics and their options")
    listed = [line.partition(": ")[0].strip().split(", ") for line in metrics.splitlines()]
    assert all(sum(name in names for names in listed) == 1 for name in RULES)
    assert "  pope: parser=official" in shown
