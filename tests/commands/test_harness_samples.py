"""Tests of `compare` over files that another harness judged: lmms-eval's samples and VLMEvalKit's tables."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.refusals import refusal
from tests.support.run_files import row, write_run
from vlm_lit.cli import main
from vlm_lit.studies.estimates.statistics import paired_difference

Capture = pytest.CaptureFixture[str]


def samples(path: Path, scores: Sequence[float], **more: object) -> Path:
    """As lmms-eval 75571cf writes them: a metric is a number, or an object that holds its `score`."""
    rows = [
        {
            "doc_id": i,
            "doc": {"question": f"what is {i}?", "image_id": f"image {i // 2}"},
            "target": "red",
            "arguments": [["what?", {"max_new_tokens": 16}]],
            "resps": [["red\n" if score else "blue"]],
            "filtered_resps": ["red" if score else "blue"],
            "doc_hash": "x",
            "pope_accuracy": {"question_id": i, "score": score, "prediction": "red"},
            **more,
        }
        for i, score in enumerate(scores)
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def table(path: Path, hits: Sequence[object], **more: Sequence[object]) -> Path:
    rows = [
        {"index": i, "question": "which?", "A": "red", "B": "blue", "answer": "A", "prediction": "A", "hit": hit,
         **{name: values[i] for name, values in more.items()}}
        for i, hit in enumerate(hits)
    ]  # fmt: skip
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


def compared(folder: Path, *words: object) -> dict[str, Any]:
    assert main(["compare", *map(str, words), "--output", str(folder / "out")]) == 0
    found: dict[str, Any] = json.loads((folder / "out" / "comparison.json").read_text())
    return found


A, B = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]


def test_samples_of_lmms_eval_are_paired_and_clustered_by_its_own_scores(tmp_path: Path) -> None:
    found = compared(tmp_path, samples(tmp_path / "a_samples_pope.jsonl", A), samples(tmp_path / "b.jsonl", B))
    expected = paired_difference(A, B, [i // 2 for i in range(6)])
    (pair,) = found["pairs"]
    assert (pair["n"], pair["clusters"]) == (6, 3)
    assert pair["difference"]["mean"] == pytest.approx(expected.difference)
    assert pair["difference"]["se_clustered"] == pytest.approx(expected.se)
    assert {one["metric"] for one in found["systems"]} == {"lmms-eval:pope_accuracy"}


def test_tables_of_vlmevalkit_are_compared_by_their_hits(tmp_path: Path) -> None:
    found = compared(tmp_path, table(tmp_path / "a.tsv", [1, 0, 1]), table(tmp_path / "b.tsv", [1, 1, 1]))
    assert [one["mean"] for one in found["systems"]] == [pytest.approx(2 / 3), 1.0]
    assert found["systems"][0]["metric"] == "VLMEvalKit:hit"


def test_files_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    files = [table(tmp_path / f"{name}_MMBench_exact_matching_result.tsv", [1, 0]) for name in ("base", "tuned")]
    assert [one["name"] for one in compared(tmp_path, *files)["systems"]] == ["base", "tuned"]
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
    files = [samples(tmp_path / name / "2026_samples_pope.jsonl", A) for name in ("base", "tuned")]
    assert [one["name"] for one in compared(tmp_path, *files)["systems"]] == ["base", "tuned"]


def test_rows_of_one_question_or_picture_are_one_cluster(tmp_path: Path, capsys: Capture) -> None:
    for column in ("g_index", "image_path"):
        files = [table(tmp_path / f"{name}.json", [1, 0, 1, 1], **{column: [7, 7, 8, 8]}) for name in ("a", "b")]
        assert compared(tmp_path, *files)["pairs"][0]["clusters"] == 2
        assert "which items show one picture" not in capsys.readouterr().out
    assert compared(tmp_path, table(tmp_path / "a.tsv", [1, 0]), table(tmp_path / "b.tsv", [1, 1]))
    assert "The files do not say which items show one picture" in capsys.readouterr().out


def test_a_sheet_of_vlmevalkit_is_read_as_well(tmp_path: Path) -> None:
    openpyxl = importlib.import_module("openpyxl")
    for name in ("a", "b"):
        book = openpyxl.Workbook()
        for cells in (
            ["index", "question", "answer", "prediction", "hit"],
            [0, "?", "A", "A", 1],
            [1, "?", "A", "B", 0],
        ):
            book.active.append(cells)
        book.save(tmp_path / f"{name}.xlsx")
    found = compared(tmp_path, tmp_path / "a.xlsx", tmp_path / "b.xlsx")
    assert [one["mean"] for one in found["systems"]] == [0.5, 0.5]


def test_one_of_several_metrics_is_named(tmp_path: Path, capsys: Capture) -> None:
    files = [samples(tmp_path / f"{name}.jsonl", A, exact_match=0.5) for name in ("a", "b")]
    error = refusal(capsys, "compare", *map(str, files), "--output", str(tmp_path / "out"))
    assert "several metrics: pope_accuracy, exact_match. Name the key of one by --metric." in error
    found = compared(tmp_path, *files, "--metric", "exact_match")
    assert [one["mean"] for one in found["systems"]] == [0.5, 0.5]
    words = ["compare", *map(str, files), "--output", str(tmp_path / "out"), "--metric", "exact_mach"]
    assert "Did you mean exact_match?" in refusal(capsys, *words)


def test_what_holds_no_scores_from_0_to_1_is_refused(tmp_path: Path, capsys: Capture) -> None:
    good = samples(tmp_path / "a.jsonl", A)
    output = ["--output", str(tmp_path / "out")]
    large = samples(tmp_path / "large.jsonl", [85.0] * 6)
    assert "from 0 to 1" in refusal(capsys, "compare", str(good), str(large), *output)
    partly = table(tmp_path / "partly.tsv", [1, ""])  # a data set of numbers beside choices
    assert "record 1 (index 1): hit is None" in refusal(capsys, "compare", str(partly), str(partly), *output)
    words = ["compare", str(good), str(good), *output, "--metric", "doc_id"]
    assert "has no doc_id. There is: ['pope_accuracy']" in refusal(capsys, *words)
    rows = [{"doc_id": 0, "doc": {}, "target": "red", "resps": [["red"]], "filtered_resps": ["red"]}]
    (tmp_path / "none.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert "none.jsonl holds no score: there is doc_id, doc" in refusal(
        capsys, "compare", str(good), str(tmp_path / "none.jsonl"), *output
    )
    mine = write_run(tmp_path / "mine", [row("0", 1.0)]) / "predictions.jsonl"
    assert "Name the run's directory" in refusal(capsys, "compare", str(good), str(mine), *output)
    other = table(tmp_path / "b.tsv", [1, 0])
    assert "judged differently" in refusal(capsys, "compare", str(good), str(other), *output)
    runs = [str(write_run(tmp_path / name, [row("0", 1.0)])) for name in ("c", "d")]
    assert "--metric is for the samples" in refusal(capsys, "compare", *runs, "--metric", "exact_match", *output)
