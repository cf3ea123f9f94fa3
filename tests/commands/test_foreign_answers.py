"""Tests of other programs' files of answers: told by their keys, each as that program writes it, and `--columns`."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.refusals import refusal
from tests.support.vqa_files import write_vqa
from vlm_lit.cli import main

Capture = pytest.CaptureFixture[str]
Scored = Callable[..., dict[str, Any]]


def lines(path: Path, rows: Sequence[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def table(path: Path, rows: Sequence[dict[str, object]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def scored(tmp_path: Path) -> Scored:
    def run(metric: str, *arguments: str) -> dict[str, Any]:
        output = tmp_path / "scores.json"
        assert main(["score", "--metric", metric, "--output", str(output), *arguments]) == 0
        found: dict[str, Any] = json.loads(output.read_text())
        return found

    return run


LLAMA_FACTORY = [
    {"prompt": "<|im_start|>user\nColour?<|im_end|>", "predict": "blue", "label": "blue"},
    {"prompt": "<|im_start|>user\nHow many?<|im_end|>", "predict": "3", "label": "2"},
]
MS_SWIFT = [
    {
        "response": answer,
        "labels": label,
        "logprobs": None,
        "messages": [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": answer}],
        "images": [{"bytes": None, "path": "a.png"}],
    }
    for answer, label in (("blue", "blue"), ("3", "2"))
]
LMMS_EVAL = [
    {
        "doc_id": 0, "doc": {"question": "Colour?", "answer": "blue"}, "target": "blue", "arguments": [["Colour?", {}]],
        "resps": [["blue\n"]], "filtered_resps": ["blue"], "doc_hash": "x", "exact_match": 1.0,
    },
    {"doc_id": 1, "target": 2, "resps": [["3"]], "doc_hash": "y", "exact_match": 0.0},
]  # fmt: skip


@pytest.mark.parametrize("rows", [LLAMA_FACTORY, MS_SWIFT, LMMS_EVAL], ids=["llama_factory", "ms_swift", "lmms_eval"])
@pytest.mark.parametrize("name", ["answers.jsonl", "answers.json"])
def test_another_programs_answers_are_read_as_they_are(
    rows: list[object], name: str, scored: Scored, tmp_path: Path
) -> None:
    found = scored("exact_match", "--records", lines(tmp_path / name, rows))
    assert found["per_item"] == {"0": 1.0, "1": 0.0}


VLMEVALKIT: list[dict[str, object]] = [
    {"index": 7, "question": "Which?", "A": "red", "B": "dark green", "C": "", "answer": "B", "category": "colour",
     "prediction": "I am sure that it is dark green"},
    {"index": 9, "question": "Which?", "A": "red", "B": "green", "C": "two", "answer": "C", "category": "number",
     "prediction": ""},
]  # fmt: skip


@pytest.mark.parametrize("ending", ["tsv", "csv"])
def test_vlmevalkits_tables_have_options_and_categories(ending: str, scored: Scored, tmp_path: Path) -> None:
    found = scored("multiple_choice", "--records", table(tmp_path / f"MMBench.{ending}", VLMEVALKIT))
    assert found["per_item"] == {"7": 1.0, "9": 0.0}
    assert found["unparsed"] == 1
    assert list(found["groups"]["category"]) == ["colour", "number"]


def test_a_cell_that_writes_a_list_holds_several_references(scored: Scored, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"index": 1, "question": "?", "answer": "['two', '2']", "prediction": "2"},
        {"index": 2, "question": "?", "answer": "[0, 1)", "prediction": "[0, 1)"},
        {"index": 3, "question": "?", "answer": "[10, 20, 30, 40]", "prediction": "[10, 20, 30, 40]"},
        {"index": 4, "question": "?", "answer": "[10, 20, 30, 40]", "prediction": "10"},
    ]
    found = scored("exact_match", "--records", table(tmp_path / "t.tsv", rows))
    assert found["per_item"] == {"1": 1.0, "2": 1.0, "3": 1.0, "4": 0.0}


def test_lmms_evals_target_may_be_a_list_as_python_spells_it(scored: Scored, tmp_path: Path) -> None:
    targets = ["['net', 'mesh']", '["it\'s a net", "net"]', "net", "[1, 2]", ["net"]]
    rows = [{"doc_id": i, "target": target, "filtered_resps": ["net"]} for i, target in enumerate(targets)]
    found = scored("exact_match", "--records", lines(tmp_path / "s.jsonl", rows))
    assert list(found["per_item"].values()) == [1.0, 1.0, 1.0, 0.0, 1.0]
    assert found["references"] == {"min": 1, "mean": 7 / 5, "max": 2}
    rows = [{"id": 0, "prediction": "['net', 'mesh']", "target": "['net', 'mesh']"}]  # another program's text is a text
    assert scored("exact_match", "--records", lines(tmp_path / "r.jsonl", rows))["overall"] == 100.0


def test_a_gap_among_a_tables_options_is_refused(tmp_path: Path, capsys: Capture) -> None:
    row = {"index": 1, "question": "?", "A": "x", "B": "y", "C": "", "D": "z", "answer": "D", "prediction": "D"}
    path = table(tmp_path / "t.tsv", [row])
    error = refusal(capsys, "score", "--metric", "multiple_choice", "--output", str(tmp_path / "o"), "--records", path)
    assert "it has no option C, and one behind it. Write the options without a gap." in error


@pytest.mark.parametrize("text", ["['net', 2]", "['net'", "['net', None]", "['n'] * 2"])
def test_a_text_that_only_begins_as_a_list_is_refused(text: str, tmp_path: Path, capsys: Capture) -> None:
    path = lines(tmp_path / "s.jsonl", [{"doc_id": 3, "target": text, "filtered_resps": ["net"]}])
    sheet = table(tmp_path / "t.csv", [{"id": 3, "prediction": "net", "answer": text}])
    for file, record in ((path, "record 0 (doc_id 3): target"), (sheet, "record 0 (id 3): answer")):
        error = refusal(capsys, "score", "--metric", "anls", "--output", str(tmp_path / "o"), "--records", file)
        assert f"{file}, {record} begins as a list and is not one of texts" in error


def test_a_sheet_is_refused_where_nothing_reads_it(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)  # as where it is not installed
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    error = refusal(capsys, "score", "--metric", "anls", "--output", "o.json", "--records", str(tmp_path / "a.xlsx"))
    assert "read by openpyxl, which is not installed: pip install openpyxl. Or save the sheet as .tsv." in error


@pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="openpyxl reads sheets, and is optional")
def test_vlmevalkits_sheets_are_read_like_its_tables(scored: Scored, tmp_path: Path, capsys: Capture) -> None:
    openpyxl = importlib.import_module("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(list(VLMEVALKIT[0]))
    for row in VLMEVALKIT:
        book.active.append([value if value != "" else None for value in row.values()])
    book.save(tmp_path / "MMBench.xlsx")
    found = scored("multiple_choice", "--records", str(tmp_path / "MMBench.xlsx"))
    assert found == scored("multiple_choice", "--records", table(tmp_path / "MMBench.tsv", VLMEVALKIT))
    (tmp_path / "cut.xlsx").write_bytes((tmp_path / "MMBench.xlsx").read_bytes()[:500])
    error = refusal(capsys, "score", "--metric", "anls", "--output", "o", "--records", str(tmp_path / "cut.xlsx"))
    assert f"{tmp_path / 'cut.xlsx'}: no sheet" in error


@pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="openpyxl reads sheets, and is optional")
def test_percentages_of_a_sheet_are_read_as_they_are_shown(scored: Scored, tmp_path: Path, capsys: Capture) -> None:
    openpyxl = importlib.import_module("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["id", "prediction", "references"])
    shares = [
        (0.57, "0%", "57%"),
        (0.575, "0%", "58%"),
        (0.5, "0.00%", "50.00%"),
        (1, "0%", "100%"),
        (-0.2, "0.0%", "-20.0%"),
    ]
    for i, (share, number_format, shown) in enumerate(shares):
        book.active.append([i, shown, share])
        book.active.cell(row=i + 2, column=3).number_format = number_format
    book.save(tmp_path / "a.xlsx")
    assert scored("exact_match", "--records", str(tmp_path / "a.xlsx"))["overall"] == 100.0
    book.active["C4"].number_format = "#,##0%"
    book.save(tmp_path / "b.xlsx")
    arguments = ("--metric", "anls", "--output", str(tmp_path / "o"), "--records", str(tmp_path / "b.xlsx"))
    assert "record 2: a cell is 0.5 in the format #,##0%, which is not read. Format" in refusal(
        capsys, "score", *arguments
    )


@pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="openpyxl reads sheets, and is optional")
def test_two_columns_of_one_name_are_refused_in_a_sheet_too(tmp_path: Path, capsys: Capture) -> None:
    openpyxl = importlib.import_module("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["id", "prediction", None, "references", None, "references"])
    book.active.append([1, "red", None, "red", None, "blue"])
    book.save(tmp_path / "a.xlsx")
    arguments = ("--metric", "anls", "--output", str(tmp_path / "o"), "--records", str(tmp_path / "a.xlsx"))
    assert f"{tmp_path / 'a.xlsx'}: two columns are named 'references'." in refusal(capsys, "score", *arguments)


@pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="openpyxl reads sheets, and is optional")
@pytest.mark.parametrize(
    "header", [["", "id", "prediction", "references"], ["", "id", None, "prediction", "references"]]
)
def test_a_cell_without_a_column_is_refused_but_the_index_of_pandas(
    header: list[str | None], scored: Scored, tmp_path: Path, capsys: Capture
) -> None:
    book = importlib.import_module("openpyxl").Workbook()
    book.active.append(header)
    book.active.append([0 if name == "" else name and "7" for name in header])
    book.save(tmp_path / "a.xlsx")
    arguments = ("--metric", "exact_match", "--records", str(tmp_path / "a.xlsx"))
    assert scored(*arguments[1:])["overall"] == 100.0
    column = len(header) + 1 if None not in header else 3
    book.active.cell(row=2, column=column).value = "blue"
    book.save(tmp_path / "a.xlsx")
    error = refusal(capsys, "score", "--output", str(tmp_path / "o"), *arguments)
    assert f"record 0: the cell {'ABCDE'[column - 1]}2 holds 'blue', and its column has no name" in error


# Answers beside annotations -------------------------------------------------------------------------------------------

LLAVA = [
    {"question_id": id_, "prompt": "?", "text": text, "answer_id": "x", "model_id": "m", "metadata": {}}
    for id_, text in ((7, "Yes"), (8, "two"), (9, "red"))
]


def test_llavas_answers_are_judged_by_the_annotations(scored: Scored, tmp_path: Path) -> None:
    official = write_vqa(tmp_path)
    expected = scored("vqa_v2", *official)
    llava = lines(tmp_path / "answers.jsonl", LLAVA)
    assert scored("vqa_v2", "--predictions", llava, *official[2:]) == expected
    own = lines(tmp_path / "own.jsonl", [{"id": str(row["question_id"]), "prediction": row["text"]} for row in LLAVA])
    assert scored("vqa_v2", "--predictions", own, *official[2:]) == expected
    other = lines(tmp_path / "other.jsonl", [{"qid": row["question_id"], "said": {"it": row["text"]}} for row in LLAVA])
    columns = ["--columns", "id=qid,prediction=said.it"]
    assert scored("vqa_v2", "--predictions", other, *official[2:], *columns) == expected


def test_llavas_answers_alone_are_sent_to_annotations(tmp_path: Path, capsys: Capture) -> None:
    for rows, name in ((LLAVA, "LLaVA's answers"), ([{"question_id": 1, "answer": "x"}], "a result file")):
        path = lines(tmp_path / "a.jsonl", rows)
        error = refusal(capsys, "score", "--metric", "anls", "--output", "o.json", "--records", path)
        assert f"{path}, record 0: these are {name}, which hold no references. Give them by --predictions" in error


@pytest.mark.parametrize("key", ["answer", "answers", "references", "label"])
def test_annotations_may_be_ones_own_records(key: str, scored: Scored, tmp_path: Path) -> None:
    known = lines(tmp_path / "test.jsonl", [{"question_id": 7, "question": "?", "image": "a.png", key: "yes"}])
    found = scored("exact_match", "--predictions", lines(tmp_path / "a.jsonl", LLAVA[:1]), "--annotations", known)
    assert (found["per_item"], found["image_ids"]) == ({"7": 0.0}, {"7": "a.png"})


def test_a_table_of_annotations_may_hold_lists_as_python_spells_them(scored: Scored, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": 7, "answers": "['red', 'Yes']"}, {"id": 8, "answers": "two"}]
    files = ["--predictions", lines(tmp_path / "a.jsonl", LLAVA[:2]), "--annotations", table(tmp_path / "t.csv", rows)]
    found = scored("exact_match", *files)
    assert (found["overall"], found["references"]["max"]) == (100.0, 2)


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ({"id": ["r1", "r2"], "prediction": ["yes", "no"]}, ["r1", "r2"]),  # a run, which takes `id`
        ({"question_id": [5, 6], "text": ["yes", "no"]}, ["5", "6"]),
        ({"question_id": [5, 6], "answer": ["yes", "no"]}, ["5", "6"]),
        ({"id": ["r1", "r2"], "question_id": [5, 6], "answer": ["yes", "no"]}, ["r1", "r2"]),
    ],
    ids=["run", "llava", "server", "both"],
)
def test_ones_own_records_with_two_ids_go_by_that_of_the_answers(
    said: dict[str, list[object]], ids: list[str], scored: Scored, tmp_path: Path
) -> None:
    known: list[dict[str, Any]] = [
        {"id": "r1", "question_id": 5, "question": "?", "answers": None, "answer": "yes"},
        {"id": "r2", "question_id": 6, "question": "?", "references": None, "answers": ["no"]},
    ]
    answers = [dict(zip(said, values, strict=True)) for values in zip(*said.values(), strict=True)]
    files = ["--predictions", lines(tmp_path / "a.jsonl", answers), "--annotations", lines(tmp_path / "k.jsonl", known)]
    assert scored("exact_match", *files)["per_item"] == dict.fromkeys(ids, 1.0)


def test_ones_own_records_go_by_the_id_that_is_not_null(scored: Scored, tmp_path: Path) -> None:
    known = [{"id": None, "question_id": 5, "question": "?", "answer": "yes"}]
    run = lines(tmp_path / "a.jsonl", [{"id": "5", "prediction": "yes"}])
    files = ["--predictions", run, "--annotations", lines(tmp_path / "k.jsonl", known)]
    assert scored("exact_match", *files)["per_item"] == {"5": 1.0}


def test_okvqas_annotations_are_read_as_published(scored: Scored, tmp_path: Path) -> None:
    people = ["race", "race", "race", "race", "motocross", "ride", "ride", "ride", "ride", "race"]
    answers = [
        {"answer_id": i, "raw_answer": f"{text}ing", "answer_confidence": "yes", "answer": text}
        for i, text in enumerate(people, 1)
    ]
    annotation = {
        "image_id": 297147, "answer_type": "other", "question_type": "one", "question_id": 2971475, "answers": answers,
        "confidence": 3,
    }  # fmt: skip
    published = {
        "info": {}, "license": {}, "data_subtype": "val2014", "data_type": "mscoco", "annotations": [annotation],
    }  # fmt: skip
    asked = {
        "questions": [{"image_id": 297147, "question": "What?", "question_id": 2971475}],
        "task_type": "Open-Ended",
    }
    for name, content in (("mscoco_val2014_annotations", published), ("questions", asked)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps([{"question_id": 2971475, "answer": "racing"}]))
    files = ["--predictions", str(tmp_path / "results.json")]
    files += ["--annotations", str(tmp_path / "mscoco_val2014_annotations.json")]
    files += ["--questions", str(tmp_path / "questions.json")]
    found = scored("vqa_v2", *files)
    assert found["per_item"] == {"2971475": 0.0}  # `racing` is nobody's answer, although it is a raw one
    assert found["references"] == {"min": 10, "mean": 10.0, "max": 10}
    (tmp_path / "results.json").write_text(json.dumps([{"question_id": 2971475, "answer": "race"}]))
    assert scored("vqa_v2", *files)["per_item"] == {"2971475": 1.0}


@pytest.mark.parametrize(
    "entry",
    [
        {"answer": "race"},
        {"answer": "race", "answer_id": 1},
        {"answer": "race", "answer_confidence": "yes"},
        {"answer": "race", "raw_answer": "racing", "worker": 3},
        "race",
    ],
    ids=str,
)
def test_an_entry_with_an_answer_is_its_answer(entry: object, scored: Scored, tmp_path: Path) -> None:
    annotations = {"annotations": [{"question_id": 1, "image_id": 2, "answers": [entry] * 4}]}
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    (tmp_path / "results.json").write_text(json.dumps([{"question_id": 1, "answer": "race"}]))
    files = ["--predictions", str(tmp_path / "results.json"), "--annotations", str(tmp_path / "annotations.json")]
    assert scored("vqa_v2", *files)["per_item"] == {"1": 1.0}


@pytest.mark.parametrize("more", [{}, {"answer_confidence": "yes"}], ids=["bare", "vqa"])
def test_a_counted_answer_is_that_many_answers(more: dict[str, object], scored: Scored, tmp_path: Path) -> None:
    counted = [{"answer": "net", "count": 9, **more}, {"answer": "mesh", "count": 1, **more}]
    written = [{"answer": word, **more} for word in ["net"] * 9 + ["mesh"]]
    found = {}
    for name, answers in (("counted", counted), ("written", written)):
        path = lines(tmp_path / f"{name}.jsonl", [{"id": "1", "prediction": "mesh", "references": answers}])
        annotations = {"annotations": [{"question_id": 1, "image_id": 2, "answers": answers}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(annotations))
        (tmp_path / "results.json").write_text(json.dumps([{"question_id": 1, "answer": "mesh"}]))
        files = ["--predictions", str(tmp_path / "results.json"), "--annotations", str(tmp_path / f"{name}.json")]
        found[name] = [scored("vqa_v2", "--records", path)["per_item"], scored("vqa_v2", *files)["per_item"]]
    assert found["counted"] == found["written"] == [{"1": pytest.approx(0.3)}] * 2


def test_answers_that_weigh_differently_are_refused(tmp_path: Path, capsys: Capture) -> None:
    answers = [{"answer": "net", "score": 0.9}, {"answer": "mesh", "score": 0.1}]
    path = lines(tmp_path / "a.jsonl", [{"id": "1", "prediction": "mesh", "references": answers}])
    error = refusal(capsys, "score", "--metric", "vqa_v2", "--output", str(tmp_path / "o"), "--records", path)
    assert f"{path}, record 0 (id 1): references: answers differ in 'score', which is not read." in error
    assert "Write each answer as often as it was given." in error


# Columns --------------------------------------------------------------------------------------------------------------

ANY = [
    {"qid": 4, "out": "red", "gold": {"texts": ["red", "Red"]}, "pic": "a", "kind": "x", "opts": ["red", "blue"]},
    {"qid": 5, "out": 2, "gold": {"texts": 3}, "pic": "b", "kind": "y", "opts": ["2", "3"]},
]


@pytest.mark.parametrize(
    "columns",
    [
        "prediction=out,id=qid,references=gold.texts,image_id=pic,groups=kind,choices=opts",
        "{prediction: out, id: qid, references: gold.texts, image_id: pic, groups: kind, choices: opts}",
    ],
)
def test_columns_name_the_keys_of_any_file(columns: str, scored: Scored, tmp_path: Path) -> None:
    found = scored("exact_match", "--records", lines(tmp_path / "a.jsonl", ANY), "--columns", columns)
    assert found["per_item"] == {"4": 1.0, "5": 0.0}
    assert found["image_ids"] == {"4": "a", "5": "b"}
    assert list(found["groups"]["kind"]) == ["x", "y"]


def test_records_without_an_id_are_named_by_their_number(scored: Scored, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", ANY)
    found = scored("exact_match", "--records", path, "--columns", "prediction=out,references=gold.texts")
    assert found["per_item"] == {"0": 1.0, "1": 0.0}
    path = lines(tmp_path / "b.jsonl", [{"prediction": "red", "answer": "red"}])
    assert scored("exact_match", "--records", path)["per_item"] == {"0": 1.0}


def test_an_index_is_the_id_where_no_other_is_there(scored: Scored, tmp_path: Path, capsys: Capture) -> None:
    rows: list[dict[str, Any]] = [{"index": i, "prediction": "red", "references": ["red"]} for i in (5, 4)]
    assert scored("exact_match", "--records", lines(tmp_path / "a.jsonl", rows))["per_item"] == {"5": 1.0, "4": 1.0}
    named = [{**row, "id": f"q{row['index']}"} for row in rows]
    assert list(scored("exact_match", "--records", lines(tmp_path / "b.jsonl", named))["per_item"]) == ["q5", "q4"]
    empty = [{**row, "index": None} for row in rows]
    assert list(scored("exact_match", "--records", lines(tmp_path / "c.jsonl", empty))["per_item"]) == ["0", "1"]
    path = lines(tmp_path / "d.jsonl", [rows[0], rows[0]])
    error = refusal(capsys, "score", "--metric", "anls", "--output", str(tmp_path / "o"), "--records", path)
    assert "the id 5 stands there twice" in error


@pytest.mark.parametrize("key", ["id", "question_id", "index"])
def test_an_id_in_a_file_that_began_without_is_refused(key: str, tmp_path: Path, capsys: Capture) -> None:
    row = {"prediction": "red", "references": ["red"]}
    path = lines(tmp_path / "a.jsonl", [row, {key: None, **row}, {key: 7, **row}, {key: 7, **row}])
    error = refusal(capsys, "score", "--metric", "anls", "--output", str(tmp_path / "o"), "--records", path)
    assert f"{path}, record 2: it has {key}, and record 0 has none of its own. Give every record its id" in error


def test_a_null_is_passed_by_where_another_key_holds_the_references(scored: Scored, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "1", "prediction": "red", "references": ["red"]},
        {"id": "2", "prediction": "blue", "references": None, "answers": ["blue"]},
        {"id": "3", "prediction": "blue", "answers": None, "answer": "blue"},
    ]
    assert scored("exact_match", "--records", lines(tmp_path / "a.jsonl", rows))["overall"] == 100.0


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("prediction", "--columns: 'prediction' is no pair."),
        ("predicton=out", "an answer has no 'predicton'. Did you mean prediction?"),
        ("id=qid,id=out", "--columns names id twice."),
        ("prediction=said,references=gold", "it has no said; there is qid, out, gold, pic, kind, opts."),
        ("references=gold.texts", "or say which one it is: --columns prediction=NAME."),
    ],
)
def test_columns_that_are_not_there_are_refused(columns: str, says: str, tmp_path: Path, capsys: Capture) -> None:
    path, output = lines(tmp_path / "a.jsonl", ANY), tmp_path / "o.json"
    arguments = ("--metric", "anls", "--output", str(output), "--records", path, "--columns", columns)
    assert says in refusal(capsys, "score", *arguments)
    assert not output.exists()


# One reference each ---------------------------------------------------------------------------------------------------

ONE_EACH = [
    {"id": str(i), "prediction": said, "references": [right]}
    for i, (said, right) in enumerate([("yes", "Yes"), ("Blue.", "blue"), ("two", "2"), ("left", "left")])
]


def test_vqa_accuracy_normalises_where_no_question_has_more_than_one_reference(
    scored: Scored, tmp_path: Path, capsys: Capture
) -> None:
    path = lines(tmp_path / "a.jsonl", ONE_EACH)
    found = scored("vqa_accuracy", "--records", path)
    assert (found["metric"], found["options"]["normalize"]) == ("vqa_accuracy[normalize=always]", "always")
    assert (found["overall"], found["misses"]["n"]) == (100.0, 0)
    assert "No question has more than one reference" in capsys.readouterr().out
    for name, *options in (("vqa_v2",), ("vqa_accuracy", "--options.normalize", "official")):
        found = scored(name, "--records", path, *options)
        assert (found["metric"], found["overall"]) == ("vqa_accuracy", 25.0)
        assert found["misses"] == {
            "n": 3, "case": 1, "full_stop": 0, "article": 0, "number_word": 1, "any_of_these": 3,
        }  # fmt: skip
        shown = capsys.readouterr().out
        assert "3 of the 3 answers that vqa_accuracy scores 0 are a reference but for case" in shown
        assert "No question has more" not in shown


def test_vqa_accuracy_is_official_where_one_question_has_several(scored: Scored, tmp_path: Path) -> None:
    several = {"id": "x", "prediction": "a", "references": ["b", "b"]}
    found = scored("vqa_accuracy", "--records", lines(tmp_path / "a.jsonl", [*ONE_EACH, several]))
    assert (found["metric"], found["overall"]) == ("vqa_accuracy", 20.0)
