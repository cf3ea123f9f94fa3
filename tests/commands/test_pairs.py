"""Tests of `pairs`: what is sampled, kept, judged and written, on the workbench's base in NF4."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from PIL import Image

from tests.support import small_config
from tests.support.pairs import preference_config
from tests.support.refusals import edited, refusal, to_stderr
from vlm_lit.cli import main
from vlm_lit.metrics.catalogue import rule
from vlm_lit.metrics.rules import Answer
from vlm_lit.workbench.base_model import copy_base
from vlm_lit.workbench.dataset import write

Capture = pytest.CaptureFixture[str]
Rows = list[dict[str, Any]]
SAMPLES = 6
MADE = ("--metric", "exact_match", "--samples", str(SAMPLES), "--temperature", "1.5", "--split", "train")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workbench in its plain words, with the base that knows them, and a config."""
    folder = tmp_path_factory.mktemp("desk")
    write(folder / "bench", train_images=4, val_images=1, test_images=1, seed=5, dialect="plain")
    copy_base(folder / "bench" / "base")
    data: small_config.Settings = {"eval_batch": 40, "max_length": 512}
    model: small_config.Settings = {"max_new_tokens": 40}
    small_config.write(folder, folder / "bench" / "base", folder / "bench", model=model, data=data)
    return folder


@pytest.fixture(scope="module")
def made(desk: Path) -> tuple[Path, list[str]]:
    """Pairs of what the base says to the training questions, and the report on them."""
    output = desk / "bench" / "pairs.jsonl"
    return output, typed(desk, output)


def words(desk: Path, output: Path, *more: str) -> list[str]:
    return ["pairs", "--config", str(desk / "config.yaml"), "--output", str(output), *MADE, *more]


def typed(desk: Path, output: Path, *more: str) -> list[str]:
    """The lines that a command writes in a process of its own."""
    command = [sys.executable, "-m", "vlm_lit", *words(desk, output, *more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def lines(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answers(output: Path) -> Rows:
    return sorted(lines(output.with_suffix(".answers.jsonl"))[1:], key=lambda row: (row["id"], row["sample"]))


def conversations(desk: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in json.loads((desk / "bench" / "train.json").read_text())}


# What is made ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_pair_is_of_a_right_and_a_wrong_answer_of_the_model(desk: Path, made: tuple[Path, list[str]]) -> None:
    asked, said, judge = conversations(desk), answers(made[0]), rule("exact_match")
    assert len(said) == len(asked) * SAMPLES
    pairs = lines(made[0])
    assert len(pairs) >= 5
    for pair in pairs:
        truth = asked[pair["id"]]["conversations"][1]["value"]
        texts = [pair[side][0]["content"][0]["text"] for side in ("chosen", "rejected")]
        numbers = pair["metadata"]["samples"]
        assert texts == [next(a["answer"] for a in said if (a["id"], a["sample"]) == (pair["id"], n)) for n in numbers]
        scores = [judge.score(Answer(text, [truth])) for text in texts]
        assert scores == [pair["score_chosen"], pair["score_rejected"]] == [1.0, 0.0]
        (question,) = pair["prompt"]
        assert question["content"][0] == {"type": "image"}
        assert question["content"][1]["text"] == asked[pair["id"]]["conversations"][0]["value"].split("\n")[1]
        assert pair["images"] == [asked[pair["id"]]["image"]]


def test_the_report_says_what_became_of_every_question(desk: Path, made: tuple[Path, list[str]]) -> None:
    asked, said, judge = conversations(desk), answers(made[0]), rule("exact_match")
    right: dict[str, set[float | None]] = {name: set() for name in asked}
    for answer in said:
        if not answer["unfinished"]:
            truth = asked[answer["id"]]["conversations"][1]["value"]
            right[answer["id"]].add(judge.score(Answer(answer["answer"], [truth])))
    report = dict(line.split(maxsplit=1) for line in made[1])
    assert report["prompts"] == str(len(asked))
    assert report["answers"].startswith(f"{len(said)}, exact_match ")
    assert report["pairs"] == str(sum(len(scores) == 2 for scores in right.values())) == str(len(lines(made[0])))
    assert report["chosen"].startswith("exact_match 1.000, ")
    assert report["rejected"].startswith("exact_match 0.000, ")
    without = [line for line in made[1] if "prompts: " in line]
    assert sum(int(line.split("prompts:")[0].split()[-1]) for line in without) == len(asked) - len(lines(made[0]))


def test_a_preference_run_trains_on_them(desk: Path, made: tuple[Path, list[str]], tmp_path: Path) -> None:
    shutil.copy(made[0], desk / "bench" / "trained.jsonl")
    model: small_config.Settings = {"metrics": None, "max_new_tokens": 4}
    data: small_config.Settings = {"val": None, "test": None, "effective_batch": 4, "max_length": 512}
    path = preference_config(tmp_path, desk / "bench" / "base", desk / "bench", model=model, data=data)
    edited(path, {"data.init_args.train.path": str(desk / "bench" / "trained.jsonl")})
    assert main(["fit", "--config", str(path), "--trainer.max_steps", "2"]) == 0
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


def test_no_key_of_them_is_told_of_as_unused(desk: Path, made: tuple[Path, list[str]], capsys: Capture) -> None:
    to_stderr()
    settings = yaml.safe_load((desk / "config.yaml").read_text())
    settings["model"]["class_path"] = "vlm_lit.PreferenceModule"
    settings["data"]["class_path"] = "vlm_lit.PreferenceDataModule"
    settings["data"]["init_args"] |= {"train": {"path": str(made[0])}, "val": None, "test": None}
    path = desk / "read.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert main(["check", "--config", str(path)]) == 0
    assert "not used" not in "".join(capsys.readouterr())


def test_datasets_reads_them_as_trl_takes_them(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    read = datasets.load_dataset("json", data_files=str(made[0]), split="train", cache_dir=str(tmp_path))
    assert {"images", "prompt", "chosen", "rejected"} <= set(read.column_names)
    assert [turn["role"] for turn in read[0]["chosen"]] == ["assistant"]
    assert [part["type"] for part in read[0]["prompt"][0]["content"]] == ["image", "text"]


# Going on, and once more ----------------------------------------------------------------------------------------------


def test_another_choice_of_pairs_needs_no_model(desk: Path, made: tuple[Path, list[str]], capsys: Capture) -> None:
    weights, before = desk / "bench" / "base" / "model.safetensors", made[0].with_suffix(".answers.jsonl").read_bytes()
    first = made[0].read_bytes()
    aside = weights.rename(weights.with_name("aside"))
    try:
        assert main(words(desk, made[0], "--pairs_per_question", "3", "--length_ratio", "1")) == 0
    finally:
        aside.rename(weights)
    shown = capsys.readouterr()
    assert "0 to sample" in shown.err
    assert made[0].with_suffix(".answers.jsonl").read_bytes() == before
    sides = [[len(row[side][0]["content"][0]["text"]) for side in ("chosen", "rejected")] for row in lines(made[0])]
    assert sides
    assert main(words(desk, made[0])) == 0
    assert made[0].read_bytes() == first


@pytest.mark.slow
def test_more_answers_are_sampled_beside_those_that_are_there(desk: Path, made: tuple[Path, list[str]]) -> None:
    output = desk / "bench" / "more.jsonl"
    typed(desk, output, "--samples", "2")
    assert len(answers(output)) == len(conversations(desk)) * 2
    typed(desk, output)
    assert answers(output) == answers(made[0])
    assert lines(output) == lines(made[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_and_gone_on_is_never_stopped(desk: Path, made: tuple[Path, list[str]], number: signal.Signals) -> None:
    output = desk / "bench" / f"{number.name}.jsonl"
    kept = output.with_suffix(".answers.jsonl")
    command = [sys.executable, "-m", "vlm_lit", *words(desk, output, "--data.init_args.eval_batch", "6")]
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while program.poll() is None and not (kept.is_file() and len(kept.read_text().splitlines()) > 10):
        time.sleep(0.02)
    assert program.poll() is None, "it ended before it could be killed"
    os.kill(program.pid, number)
    said = program.communicate(timeout=240)[1]
    assert program.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert f"The answers so far are in {kept}; the same command goes on." in said or number == signal.SIGKILL
    assert not output.exists()
    there = kept.read_text()
    kept.write_text(there + '{"id": "half a li')  # what a kill in the middle of a line leaves
    assert 10 < len(there.splitlines()) < len(answers(made[0]))
    typed(desk, output)
    assert kept.read_text().startswith(there)
    assert answers(output) == answers(made[0])
    assert lines(output) == lines(made[0])


@pytest.mark.slow
def test_two_ranks_sample_what_one_does(desk: Path, made: tuple[Path, list[str]]) -> None:
    output = desk / "bench" / "ranks.jsonl"
    typed(desk, output, "--trainer.strategy=ddp", "--trainer.devices=2")
    files = [output.with_suffix(f".answers{rank}.jsonl") for rank in ("", ".rank1")]
    both = [row for file in files for row in lines(file)[1:]]
    assert all(len(lines(file)) > SAMPLES for file in files)
    assert sorted(both, key=lambda row: (row["id"], row["sample"])) == answers(made[0])
    assert lines(output) == lines(made[0])


def test_answers_of_other_settings_are_refused(desk: Path, made: tuple[Path, list[str]], capsys: Capture) -> None:
    error = refusal(capsys, *words(desk, made[0], "--temperature", "0.5", "--model.init_args.max_new_tokens", "9"))
    assert "were sampled with another model.init_args.max_new_tokens 40 (now 9), temperature 1.5 (now 0.5)" in error
    schema = desk / "bench" / "schema.json"
    schema.write_text(json.dumps({"enum": ["red", "grey"]}), encoding="utf-8")
    error = refusal(capsys, *words(desk, made[0], "--model.init_args.answer_schema", str(schema)))
    assert "were sampled with another model.init_args.answer_schema None (now " in error
    made[0].with_suffix(".answers.jsonl").rename(desk / "aside")
    try:
        made[0].with_suffix(".answers.jsonl").write_text("something else\n")
        assert "holds no sampled answers" in refusal(capsys, *words(desk, made[0]))
    finally:
        (desk / "aside").rename(made[0].with_suffix(".answers.jsonl"))


def test_a_question_that_was_changed_is_answered_anew(desk: Path, made: tuple[Path, list[str]]) -> None:
    output = desk / "bench" / "changed.jsonl"
    shutil.copy(made[0].with_suffix(".answers.jsonl"), output.with_suffix(".answers.jsonl"))
    rows = list(conversations(desk).values())
    rows[0]["conversations"][0]["value"] = "<image>\nhow many things are there?"
    (desk / "bench" / "changed.json").write_text(json.dumps(rows))
    typed(desk, output, "--data.train.path", str(desk / "bench" / "changed.json"))
    found = lines(output.with_suffix(".answers.jsonl"))
    assert len(found) == len(lines(made[0].with_suffix(".answers.jsonl"))) + SAMPLES
    assert {row["id"] for row in found[-SAMPLES:]} == {rows[0]["id"]}


# Models and pictures --------------------------------------------------------------------------------------------------


def test_a_runs_model_answers(desk: Path, tmp_path: Path, made: tuple[Path, list[str]]) -> None:
    run, output = tmp_path / "run", desk / "bench" / "of_run.jsonl"
    config = str(desk / "config.yaml")
    more = ["--model.init_args.learning_rate", "0.01", "--trainer.max_steps", "2", "--trainer.limit_val_batches", "0"]
    assert main(["fit", "--config", config, "--run_dir", str(run), *more]) == 0
    before = {path for path in run.rglob("*") if path.is_file()}
    assert main(["pairs", "--from", str(run), "--output", str(output), *MADE]) == 0
    assert {path for path in run.rglob("*") if path.is_file()} == before
    assert [row["answer"] for row in answers(output)] != [row["answer"] for row in answers(made[0])]
    # The adapter alone is the same model, and no other run's.
    shutil.rmtree(run / "checkpoints")
    again = desk / "bench" / "of_adapter.jsonl"
    assert main(["pairs", "--from", str(run), "--output", str(again), *MADE]) == 0
    assert [row["answer"] for row in answers(again)] == [row["answer"] for row in answers(output)]


@pytest.mark.slow
def test_pictures_of_a_table_are_written_beside_the_pairs(
    desk: Path, tmp_path: Path, made: tuple[Path, list[str]]
) -> None:
    rows = [
        {
            "id": name,
            "image": {"bytes": (desk / "bench" / row["image"]).read_bytes(), "path": None},
            "question": row["conversations"][0]["value"].removeprefix("<image>\n"),
            "answer": row["conversations"][1]["value"],
        }
        for name, row in conversations(desk).items()
    ]
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    table.to_parquet(str(tmp_path / "train.parquet"))
    output = tmp_path / "out" / "pairs.json"
    typed(desk, output, "--data.train.path", str(tmp_path / "train.parquet"))
    pairs = json.loads(output.read_text())
    sides = [(pair["id"], pair["chosen"], pair["rejected"]) for pair in pairs]
    assert sides == [(pair["id"], pair["chosen"], pair["rejected"]) for pair in lines(made[0])]
    for pair, other in zip(pairs, lines(made[0]), strict=True):
        (name,) = pair["images"]
        assert name.startswith("pairs_images/")
        with Image.open(output.parent / name) as one, Image.open(desk / "bench" / other["images"][0]) as same:
            assert one.tobytes() == same.tobytes()


def test_pictures_that_lie_elsewhere_are_named_in_full(
    desk: Path, tmp_path: Path, made: tuple[Path, list[str]], capsys: Capture
) -> None:
    output = tmp_path / "pairs.jsonl"
    shutil.copy(made[0].with_suffix(".answers.jsonl"), output.with_suffix(".answers.jsonl"))
    assert main(words(desk, output)) == 0
    assert "read it with image_root: /" in capsys.readouterr().out
    for pair, other in zip(lines(output), lines(made[0]), strict=True):
        assert pair["images"] == [str(desk / "bench" / other["images"][0])]


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--output"], "expected one argument"),
        (["--sample", "3"], "--sample is not an option. Did you mean --samples?"),
        (["--samples", "1"], "1 is not a whole number from 2 up"),
        (["--temperature", "0"], "temperature is 0.0; it must be above 0"),
        (["--metric", "answer_length"], "answer_length is no score, so it cannot say which of two answers is better"),
        (["--metric", "anlss"], "There is no metric 'anlss'. Did you mean 'anls'?"),
        (["--output", "pairs.txt"], "--output pairs.txt must end with .jsonl or .json"),
        (["--split", "predict"], "There is nothing to ask: set data.init_args.predict to a file or a hub id, or ask"),
        (["--model.init_args.answer_from", '["yes","no"]'], "model.answer_from chooses answers from a list"),
        (["--data.init_args.blind", "blank"], "answers of pairs are about their own images"),
    ],
)
def test_refused(more: list[str], says: str, desk: Path, tmp_path: Path, capsys: Capture) -> None:
    assert says in refusal(capsys, *words(desk, tmp_path / "pairs.jsonl", *more))
    assert not list(tmp_path.iterdir())


def test_questions_without_an_answer_to_judge_by_are_refused_before_anything_is_sampled(
    desk: Path, tmp_path: Path, capsys: Capture
) -> None:
    rows = list(conversations(desk).values())
    rows[3]["conversations"].pop()
    (desk / "bench" / "open.json").write_text(json.dumps(rows))
    more = ["--split", "predict", "--data.predict.path", str(desk / "bench" / "open.json")]
    error = refusal(capsys, *words(desk, tmp_path / "pairs.jsonl", *more))
    assert f"Record {rows[3]['id']!r} of " in error
    assert "needs at least one reference answer" in error
    assert not list(tmp_path.iterdir())


def test_where_no_pair_can_be_made_the_counts_say_why_and_nothing_is_written(
    desk: Path, made: tuple[Path, list[str]], capsys: Capture
) -> None:
    output = desk / "bench" / "none.jsonl"
    shutil.copy(made[0].with_suffix(".answers.jsonl"), output.with_suffix(".answers.jsonl"))
    rows = list(conversations(desk).values())
    for row in rows:
        row["conversations"][1]["value"] = "what nobody says"
    (desk / "bench" / "never.json").write_text(json.dumps(rows))
    to_stderr()
    assert main(words(desk, output, "--data.train.path", str(desk / "bench" / "never.json"))) == 2
    shown = capsys.readouterr().err
    assert "No pair could be made; the counts above say why." in shown
    without = [int(line.split("prompts:")[0].split()[-1]) for line in shown.splitlines() if "prompts: " in line]
    assert sum(without) == len(rows)
    assert without[0] > 5  # ties
    assert not output.exists()
