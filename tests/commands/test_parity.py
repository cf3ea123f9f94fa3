"""Tests of `parity`: agreement of two servers with its interval, the token at which they part, and refusals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.refusals import refusal
from tests.support.run_files import row, write_run
from vlm_lit.cli import main
from vlm_lit.studies.estimates.statistics import mean_interval

Capture = pytest.CaptureFixture[str]


def served(path: Path, answers: Sequence[str], *, tokens: bool = True) -> str:
    """Answers with a token a letter; two questions show one image."""
    rows = [
        {"id": f"q{i}", "prediction": text, "image_id": f"image {i // 2}"}
        | ({"token_ids": list(map(ord, text))} if tokens else {})
        for i, text in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(path)


FIRST = ["red lamp"] * 70
SECOND = ["red lamp"] * 60 + ["red tool"] * 9 + ["red"]


def test_agreement_has_a_clustered_interval_and_the_first_differing_token(tmp_path: Path, capsys: Capture) -> None:
    files = [served(tmp_path / "a.jsonl", FIRST), served(tmp_path / "b.jsonl", SECOND)]
    output = tmp_path / "parity.json"
    assert main(["parity", *files, "--examples", "1", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    expected = mean_interval([float(i < 60) for i in range(70)], [i // 2 for i in range(70)])
    assert found["tokens"] == found["texts"] == pytest.approx(60 / 70)
    assert found["token_interval"]["low"] == pytest.approx(expected.low)
    assert [one["token"] for one in found["partings"]] == [4] * 9 + [3]
    shown = capsys.readouterr().out
    assert "they part at token 3 at the earliest, in the middle at 4 (counted from 0)" in shown
    assert "q60, from token 4 on:" in shown
    assert "and 9 more that differ" in shown
    assert main(["parity", *files, "--least", "0.9"]) == 1
    assert main(["parity", *files, "--least", "0.85"]) == 0


def test_equal_texts_of_other_tokens_are_found(tmp_path: Path) -> None:
    a, b = served(tmp_path / "a.jsonl", FIRST), tmp_path / "b.jsonl"
    rows = [json.loads(line) for line in Path(a).read_text().splitlines()]
    rows[5]["token_ids"] = [*rows[5]["token_ids"][:2], 999]
    b.write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert main(["parity", a, str(b), "--output", str(tmp_path / "out.json"), "--least", "1"]) == 1
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["texts"], found["partings"][0]["id"], found["partings"][0]["token"]) == (1.0, "q5", 2)
    assert found["partings"][0]["letter"] is None


def test_a_picture_is_known_by_its_path_where_it_has_no_id(tmp_path: Path) -> None:
    files = []
    for name, root in (("a", "here"), ("b", "there")):
        lines = [row(f"q{i}", float(i % 2), image_id=None, image=f"{root}/{i // 20}.jpg") for i in range(40)]
        files.append(str(write_run(tmp_path / name, lines) / "predictions.jsonl"))
    assert main(["parity", *files, "--output", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["images"] == 2


def test_other_pictures_are_no_parity(tmp_path: Path, capsys: Capture) -> None:
    files = [Path(served(tmp_path / "a.jsonl", FIRST)), tmp_path / "b.jsonl"]
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    for images, asked in ((["else"], "'q0' is about 'image 0' in one file and about 'else'"), ([None], "35 images")):
        changed = [{**one, "image_id": image} for one, image in zip(rows, images * len(rows), strict=False)]
        files[1].write_text("".join(json.dumps(one) + "\n" for one in changed))
        words = ["parity", *map(str, files)]
        if images == ["else"]:
            assert asked in refusal(capsys, *words)
        else:
            assert main(words) == 0
            shown = capsys.readouterr().out
            assert asked in shown
            assert "not that the value is certain" in shown


def test_runs_are_compared_by_their_texts(tmp_path: Path, capsys: Capture) -> None:
    runs = [
        str(write_run(tmp_path / name, [row("q0", 1.0), row("q1", score)])) for name, score in (("a", 1.0), ("b", 0))
    ]
    assert main(["parity", *runs]) == 0
    shown = capsys.readouterr().out
    assert "the same texts: 50.0 % [0.0, 100.0]" in shown
    assert "Tokens are not compared" in shown
    assert "q1, from letter 0 on:" in shown


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: Capture) -> None:
    good = served(tmp_path / "a.jsonl", FIRST)
    assert "two files or runs must be given, got 1" in refusal(capsys, "parity", good)
    assert "such as 'q69'" in refusal(capsys, "parity", good, served(tmp_path / "b.jsonl", FIRST[:-1]))
    assert "cannot be read" in refusal(capsys, "parity", good, str(tmp_path / "none"))
    for text, words in (
        ('[{"id": "q0", "prediction": ""}]\n', "line 1: holds no object"),
        ('{"id": "q0", "prediction": "", "image_id": ["a"]}\n', "image_id is a text or a whole number"),
        ('{"id": "q0"}\n', "line 1: an answer has an id and a prediction"),
        ('{"id": "q0", "prediction": "", "token_ids": [1.5]}\n', "token_ids is a list of whole numbers"),
        ('{"id": "q0", "prediction": "a"}\n{"id": "q0", "prediction": "b"}\n', "'q0' stands there twice"),
        ("", "holds no answers"),
    ):
        (tmp_path / "bad.jsonl").write_text(text)
        assert words in refusal(capsys, "parity", good, str(tmp_path / "bad.jsonl"))
