"""Tests of `curate` as it is typed: sources of other names, splits of the sources, refusals, the template."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import tiny_models
from tests.support.html_page import Page
from tests.support.refusals import edited, refusal, refused
from vlm_lit.cli import main
from vlm_lit.curation.candidates import counted_answer

Capture = pytest.CaptureFixture[str]
Config = Callable[..., Path]
Rows = list[dict[str, Any]]


def pictures(folder: Path, n: int) -> Path:
    """Pictures of many sizes and colours, each unlike the others."""
    from tests.support.messy_folder import Messy

    messy = Messy(folder)
    for k in range(n):
        messy.photo(f"{k}.png")
    return messy.photos


def source(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def row(k: int, **more: object) -> dict[str, Any]:
    return {"id": f"row{k}", "image": f"{k}.png", "question": "what is it?", "answer": f"answer {k}", **more}


def curated(output: Path, *arguments: object) -> dict[str, Any]:
    assert main(["curate", *map(str, arguments), "--output", str(output)]) == 0
    counts: dict[str, Any] = json.loads((output / "curation.json").read_text())
    return counts


def written(output: Path, name: str) -> Rows:
    path = output / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kept(output: Path) -> dict[str, str]:
    return {row["id"]: split for split in ("train", "val", "test") for row in written(output, split)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return pictures(tmp_path, 12)


def test_two_sources_with_other_names(photos: Path, tmp_path: Path) -> None:
    german = [{"nr": k, "bild": {"datei": f"{k}.png"}, "frage": "Was?", "antwort": "eine Lampe"} for k in range(4)]
    a, b = source(tmp_path / "a.jsonl", [row(k) for k in range(4, 8)]), source(tmp_path / "b.jsonl", german)
    columns = "question=q|frage,answer=antwort,image=bild.datei,id=nr"
    counts = curated(tmp_path / "out", a, b, "--images", photos, "--columns", columns)
    assert counts["kept"] == counts["read"] == 8
    assert set(map(str, kept(tmp_path / "out"))) == {"0", "1", "2", "3", "row4", "row5", "row6", "row7"}
    assert {row["question"] for s in ("train", "val", "test") for row in written(tmp_path / "out", s)} == {
        "Was?",
        "what is it?",
    }


def test_a_config_says_the_same_as_options_and_more(photos: Path, tmp_path: Path) -> None:
    a = source(tmp_path / "a.jsonl", [row(k) for k in range(4)])
    b = source(tmp_path / "b.jsonl", [{"id": f"b{k}", "image": f"{k}.png", "q": "Was?", "a": "x"} for k in range(4)])
    settings = {
        "sources": [str(a), {"path": str(b), "columns": {"question": ["frage", "q"], "answer": "a"}}],
        "images": str(photos),
        "output": str(tmp_path / "one"),
        "val": 0,
        "test": 0.5,
        "seed": 3,
    }
    config = tmp_path / "curate.yaml"
    config.write_text(yaml.safe_dump(settings))
    assert main(["curate", "--config", str(config)]) == 0
    assert len(kept(tmp_path / "one")) == 8
    assert not (tmp_path / "one/val.jsonl").exists()
    again = [a, b, "--images", photos, "--columns", "question=q,answer=a", "--val", 0, "--test", 0.5, "--seed", 3]
    curated(tmp_path / "two", *again)
    assert kept(tmp_path / "two") == kept(tmp_path / "one")
    assert main(["curate", "--config", str(config), "--output", str(tmp_path / "three"), "--test", "0"]) == 0
    assert set(kept(tmp_path / "three").values()) == {"train"}


def test_splits_that_sources_say(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    """What training shows and testing asks for leaves the training part."""
    (photos / "copy.png").write_bytes((photos / "0.png").read_bytes())
    train = source(tmp_path / "train.jsonl", [row(k) for k in range(6)] + [row(6, split="validation")])
    test = source(tmp_path / "test.jsonl", [{**row(7), "image": "copy.png"}, row(8)])
    given = [train, test, "--images", photos]
    counts = curated(tmp_path / "kept", *given, "--splits_from", "sources")
    of = kept(tmp_path / "kept")
    assert "row0" not in of
    assert of["row7"] == of["row8"] == "test"
    assert of["row6"] == "val"
    assert all(of[f"row{k}"] == "train" for k in range(1, 6))
    assert counts["rejected"] == {"exact_duplicates": 1}
    assert counts["duplicates_across_splits"] == 0
    assert counts["duplicates_across_source_splits"] == {"exact_duplicates": 1, "near_duplicates": 0}
    assert "The sources have" not in capsys.readouterr().out
    counts = curated(tmp_path / "new", *given)
    assert counts["kept"] == 9
    assert kept(tmp_path / "new")["row0"] == kept(tmp_path / "new")["row7"]
    assert "The sources have 1 pictures on several of their own splits" in capsys.readouterr().out


WORDS = {
    **dict.fromkeys(("train2014", "Training", "train_2017"), "train"),
    **dict.fromkeys(("val2014", "validation", "dev", "minival", "minival2014"), "val"),
    **dict.fromkeys(("test2015", "testdev", "test-dev2015", "test_std", "test-std2015"), "test"),
}


@pytest.mark.parametrize("in_rows", [False, True])
def test_words_for_splits(in_rows: bool, tmp_path: Path, capsys: Capture) -> None:
    photos = pictures(tmp_path, len(WORDS))
    rows = {word: row(k, id=word, **({"split": word} if in_rows else {})) for k, word in enumerate(WORDS)}
    if in_rows:
        files = [source(tmp_path / "a.jsonl", list(rows.values()))]
    else:
        files = [source(tmp_path / f"v2_{word}_questions.jsonl", [one]) for word, one in rows.items()]
    curated(tmp_path / "out", *files, "--images", photos, "--splits_from", "sources")
    assert kept(tmp_path / "out") == WORDS
    assert "by their pictures" not in capsys.readouterr().out


def test_a_split_that_is_not_understood(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    words = {"row0": "holdout", "row1": 3, "row2": "", "row3": "testA", "row4": None, "row5": "test"}
    a = source(tmp_path / "rest.jsonl", [row(k, split=word) for k, word in enumerate(words.values())])
    given = [a, "--images", photos, "--val", 0, "--test", 0]
    counts = curated(tmp_path / "sources", *given, "--splits_from", "sources")
    assert kept(tmp_path / "sources") == {"row2": "train", "row4": "train", "row5": "test"}
    assert counts["rejected"] == {"conversation.split": 3}
    assert "its split is 'holdout', which means neither" in written(tmp_path / "sources", "rejects")[0]["problem"]
    assert "2 rows came to a split by their pictures" in capsys.readouterr().out
    counts = curated(tmp_path / "left_out", *given, "--splits_from", "sources", "--ignore_keys", "split")
    assert set(kept(tmp_path / "left_out").values()) == {"train"}
    capsys.readouterr()
    curated(tmp_path / "pictures", *given)
    rows = {row["id"]: row.get("split", "none") for row in written(tmp_path / "pictures", "train")}
    assert rows == {**words, "row2": "none", "row4": "none", "row5": "none"}
    assert "Rows say splits in their field split (test 1), and were split anew" in capsys.readouterr().out


def test_a_field_that_columns_name_says_the_split(photos: Path, tmp_path: Path) -> None:
    a = source(tmp_path / "a.jsonl", [row(k, part="val" if k else "test2015") for k in range(4)])
    curated(tmp_path / "out", a, "--images", photos, "--columns", "split=part", "--splits_from", "sources")
    assert kept(tmp_path / "out") == {"row0": "test", "row1": "val", "row2": "val", "row3": "val"}


def test_contradictions_rejected(photos: Path, tmp_path: Path) -> None:
    rows = [
        row(0),
        {**row(0), "id": "other", "answer": "another"},
        {**row(0), "id": "same", "answer": "Another."},
        row(1),
    ]
    counts = curated(
        tmp_path / "out", source(tmp_path / "a.jsonl", rows), "--images", photos, "--contradictions", "reject"
    )
    assert set(kept(tmp_path / "out")) == {"row1"}
    assert counts["rejected"] == {"contradiction": 3}
    assert counts["contradictions"] == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-5", "5"),
        ("C++", "C"),
        ("A+", "A-"),
        ("<5", ">5"),
        ("1-0", "1 0"),
        ("10-12", "1012"),
        ("1/2", "1 2"),
        ("x=2", "x 2"),
        ("a != b", "a = b"),
        ("1,5", "15"),
        ("int[]", "int"),
        ("f(x)", "f x"),
        ("snow_man", "snow man"),
        ("(-5)", "(5)"),
    ],
)
def test_answers_of_other_signs_are_other_answers(one: str, other: str) -> None:
    assert counted_answer(one) != counted_answer(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Yes.", "yes"),
        ("Yes!?", "yes"),
        ('"(Red)."', "red"),
        ("t-shirt", "t shirt"),
        ("yes - it is", "yes it is"),
        ("a cat", "cat"),
        ("two", "2"),
        ("1,000", "1000"),
        ("red, blue", "red blue"),
        ("red (dark)", "red dark"),
        ("x = two", "X=2"),
        ("- 5", "-5"),
        ("a cat / a dog", "cat/dog"),
        ("C++.", "c++"),
    ],
)
def test_spellings_of_one_answer(one: str, other: str) -> None:
    assert counted_answer(one) == counted_answer(other)


def test_answers_of_other_signs_contradict_each_other(photos: Path, tmp_path: Path) -> None:
    said = ["-5", "5", "5.", "C", "C++", "c++"]
    rows = [row(0, id=f"row{k}", question=f"q{k // 3}", answer=answer) for k, answer in enumerate(said)]
    counts = curated(tmp_path / "out", source(tmp_path / "a.jsonl", rows), "--images", photos)
    assert (counts["kept"], counts["merged"], counts["contradictions"]) == (4, 2, 2)
    found = [one["answers"] for one in written(tmp_path / "out", "contradictions")]
    assert found == [{"-5": 1, "5": 2}, {"c": 1, "c++": 2}]


def test_annotations_apart_and_numbered_pictures(tmp_path: Path) -> None:
    """VQA as it is published: questions here, answers there, pictures by number."""
    photos = pictures(tmp_path, 2)
    for k in range(2):
        (photos / f"{k}.png").rename(photos / f"COCO_val2014_{k:012d}.png")
    questions = {"questions": [{"image_id": k, "question": "what?", "question_id": k + 5} for k in range(2)]}
    answers = [{"question_id": k + 5, "answers": [{"answer": "red"}] * 10, "answer_type": "other"} for k in range(2)]
    (tmp_path / "q.json").write_text(json.dumps(questions))
    (tmp_path / "a.json").write_text(json.dumps({"data_subtype": "val2014", "annotations": answers}))
    given = [tmp_path / "q.json", "--images", photos, "--annotations", tmp_path / "a.json", "--seed", 1]
    counts = curated(tmp_path / "out", *given)
    assert counts["kept"] == 2
    assert counts["repaired_paths"] == {"extension": 2}  # COCO's are JPEGs


def test_answers_that_need_no_picture_are_reported(photos: Path, tmp_path: Path) -> None:
    rows = [row(k, answer="yes" if k < 9 else "no") for k in range(12)]
    counts = curated(tmp_path / "out", source(tmp_path / "a.jsonl", rows), "--images", photos, "--val", 0, "--test", 0)
    prior = counts["answers"]["train"]
    assert prior["most_common"] == {"yes": 9, "no": 3}
    assert prior["majority"] == prior["majority_by_question"] == 0.75


def test_a_second_curation_in_the_same_folder(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    a = source(tmp_path / "a.jsonl", [row(k) for k in range(12)])
    given = [a, "--images", photos, "--val", 0.3, "--test", 0.3]
    output = tmp_path / "out"
    curated(output, *given)
    before = kept(output)
    error = refusal(capsys, "curate", *map(str, given), "--output", str(output))
    assert error.endswith(f"{output} holds a curation. Name another --output, or say --overwrite to replace it.")
    # A near duplicate that comes first would have named its group.
    from PIL import Image

    for k in range(12):
        Image.open(photos / f"{k}.png").save(photos / f"near{k}.jpg", quality=80)
    first = source(tmp_path / "0.jsonl", [{**row(k), "id": f"near{k}", "image": f"near{k}.jpg"} for k in range(12)])
    curated(output, first, *given, "--overwrite")
    after = kept(output)
    assert {name: after[name] for name in before} == before
    assert all(after[f"near{k}"] == after[f"row{k}"] for k in range(12))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    curated(output, *given, "--overwrite", "--seed", 5)  # other rules: split anew
    assert kept(output) != before


def test_near_duplicates_are_looked_for_only_if_asked(photos: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.open(photos / "0.png").save(photos / "near.jpg", quality=80)
    a = source(tmp_path / "a.jsonl", [row(0), {**row(1), "image": "near.jpg"}])
    assert curated(tmp_path / "one", a, "--images", photos)["duplicates"]["near_duplicates"] == 2
    counts = curated(tmp_path / "two", a, "--images", photos, "--near_distance", "none")
    assert counts["duplicates"]["near_duplicates"] == 0


def test_many_pictures_are_looked_at_in_several_processes(tmp_path: Path) -> None:
    photos = pictures(tmp_path, 270)
    a = source(tmp_path / "a.jsonl", [row(k) for k in range(270)])
    curated(tmp_path / "two", a, "--images", photos, "--workers", 2)
    curated(tmp_path / "one", a, "--images", photos, "--workers", 1)
    for name in ("train.jsonl", "val.jsonl", "test.jsonl", "pictures.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_page_shows_a_picture_that_only_a_rejected_row_holds(photos: Path, tmp_path: Path) -> None:
    held = base64.b64encode((photos / "0.png").read_bytes()).decode()
    a = source(tmp_path / "a.jsonl", [row(0, image=f"data:image/png;base64,{held}", answer=""), row(1)])
    curated(tmp_path / "out", a, "--images", photos)
    assert Page((tmp_path / "out/curation.html").read_text()).addresses
    assert not (tmp_path / "out/images/held").exists()


def test_a_killed_curation_leaves_no_folder_of_its_name(photos: Path, tmp_path: Path) -> None:
    rows = [row(k % 12, id=f"row{k}") for k in range(30_000)]
    a = source(tmp_path / "a.jsonl", rows)
    command = [sys.executable, "-m", "vlm_lit", "curate", str(a), "--images", str(photos), "--output", "out"]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ}, text=True)
    assert running.stderr is not None
    assert running.stderr.readline() == "reading rows\n"
    time.sleep(0.3)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "a SOURCE must be given."),
        (["a.jsonl"], "--output must be given."),
        (["a.jsonl", "--outptu", "x"], "Did you mean --output?"),
        (["gone.jsonl", "--output", "x"], "gone.jsonl: no such file or folder"),
        (["a.jsonl", "--output", "x", "--images", "gone"], "--images gone: there is no such folder."),
        (
            ["a.jsonl", "--output", "x", "--columns", "question=qestion"],
            "no row has a field qestion to use as question",
        ),
        (["a.jsonl", "--output", "x", "--columns", "question"], "question is not ours=theirs"),
        (["a.jsonl", "--output", "x", "--val", "0.6", "--test", "0.4"], "val is 0.6 and test is 0.4"),
        (["a.jsonl", "--output", "x", "--near_distance", "40"], "near_distance is 40"),
        (["a.jsonl", "--output", "x", "--prefix", "/a"], "/a is not OLD=NEW"),
        (["a.jsonl", "--output", "photos"], "photos exists and holds no curation."),
        (["a.jsonl", "--output", "a.jsonl"], "--output a.jsonl is no folder."),
        (["a.jsonl", "--output", "x", "--previous", "photos"], "photos holds no pictures.jsonl"),
        (["a.jsonl", "--output", "x", "--encoding", "cp12"], "encoding is cp12, which Python does not know."),
        (["a.txt", "--output", "x"], "files that end in .txt are not read."),
        (["--config", "bad.yaml"], "bad.yaml.sourcs is not an option. Did you mean bad.yaml.sources?"),
    ],
)
def test_refusals(
    arguments: list[str], says: str, photos: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source(tmp_path / "a.jsonl", [row(k) for k in range(3)])
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "bad.yaml").write_text("sourcs: [a.jsonl]\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert says in refusal(capsys, "curate", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert len(list(photos.iterdir())) == 12


def test_a_template_is_refused_until_it_is_filled(config: Config, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "pics"
    (folder / "sub").mkdir(parents=True)
    for k in range(2):
        tiny_models.picture(k).save(folder / f"sub/{k}.PNG")
    assert main(["curate", "template", str(folder)]) == 0
    file = folder / "annotate.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["image"] for row in rows] == ["sub/0.PNG", "sub/1.PNG"]
    train = edited(config(), {"data.init_args.train.path": str(file)})
    assert "its question is still '[ANNOTATE: a question about this picture]'" in refused(capsys, train)
    for row in rows:
        row["question"] = "what is it?"
    source(file, rows)
    assert "turn 1, an answer to learn, is '[ANNOTATE: the answer]'" in refused(capsys, train)
    for row in rows:
        row["answer"] = "red"
    source(file, rows)
    assert main(["inspect", "--config", str(train)]) == 0


def test_an_unfilled_question_is_refused_within_a_prompt(config: Config, tmp_path: Path, capsys: Capture) -> None:
    tiny_models.picture(1).save(tmp_path / "1.png")
    file = source(tmp_path / "a.jsonl", [{"image": "1.png", "question": "[ANNOTATE: what]", "answer": "red"}])
    changes = {"data.init_args.train.path": str(file), "data.init_args.prompt": "{question}\nAnswer in one word."}
    assert "its question is still '[ANNOTATE: what]'" in refused(capsys, edited(config(), changes))


def test_a_template_with_questions(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "todo.jsonl"
    asked = ["--question", "Is it on?", "--question", "What colour?", "--output", str(output)]
    assert main(["curate", "template", str(photos), *asked]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 24
    assert rows[0] == {"image": "photos/0.png", "question": "Is it on?", "answer": "[ANNOTATE: the answer]"}
    capsys.readouterr()
    assert "exists, and somebody may have written in it" in refusal(capsys, "curate", "template", str(photos), *asked)
    (tmp_path / "empty").mkdir()
    assert "holds no picture" in refusal(capsys, "curate", "template", str(tmp_path / "empty"))
    assert "there is no such folder" in refusal(capsys, "curate", "template", str(tmp_path / "gone"))
