"""Tests of the pure parts of the benchmark of preference pairs. Nothing is timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import against_trl
import against_trl_dpo
import comparing
import ours
import pair_workloads
import plots
import pytest
import shapes
import theirs_dpo
import torch
import yaml
from pair_workloads import PairWorkload
from workloads import PHOTO

from tests.support.bench_runs import run_of
from tests.test_configs import printed
from vlm_lit.data.conversations.preferences import to_preference
from vlm_lit.data.images.images import load_images
from vlm_lit.data.records.records import read_records
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.masking import Transcript
from vlm_lit.schema import IGNORE_INDEX

SMALL = PairWorkload(name="small", says="small", image_tokens=64, questions=2, batch=4, steps=2)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small workload's file."""
    return pair_workloads.write(tmp_path_factory.mktemp("bench") / "data", SMALL)


def scored_by_trl(processor: Any, row: dict[str, Any], side: str) -> tuple[list[int], list[int]]:
    """Token ids of an answer behind its prompt, and its own, as TRL makes them: two renderings, cut and tokenized."""
    prompt = processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    whole = processor.apply_chat_template(row["prompt"] + row[side], tokenize=False)
    assert whole.startswith(prompt)
    ids = [processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole[len(prompt) :])]
    return ids[0] + ids[1], ids[1]


@pytest.mark.parametrize("shape", ["llava", "smolvlm"])
def test_both_sides_score_the_same_tokens(train: Path, shape: str) -> None:
    processor: Any = shapes.llava_processor(64) if shape == "llava" else shapes.smolvlm_processor()
    rows = json.loads(train.read_text())
    for record, row in list(zip(read_records(train), rows, strict=True))[:3]:
        pair = to_preference(record)
        for name, side in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            encoded = Encoder(Transcript(processor)).encode([side], [load_images(side)], side="right")
            ids, labels = encoded.inputs["input_ids"][0], encoded.labels[0]
            image = processor.tokenizer.convert_tokens_to_ids(str(processor.image_token))
            expected, answer = scored_by_trl(processor, row, name)
            assert labels[labels != IGNORE_INDEX].tolist() == answer
            if shape == "llava":  # whose image is one repeated token and nothing else
                collapsed = torch.unique_consecutive(ids[ids == image]).tolist()
                assert collapsed == [image]
                first = ids.tolist().index(image)
                assert [*ids[:first].tolist(), image, *ids[first + 64 :].tolist()] == expected


def test_a_workload_has_pairs_that_differ_about_each_picture(train: Path) -> None:
    rows = json.loads(train.read_text())
    assert len(rows) == SMALL.conversations == 8
    assert [row["images"] for row in rows[0::2]] == [row["images"] for row in rows[1::2]]
    assert len({row["images"][0] for row in rows}) == 4
    assert all((train.parent / row["images"][0]).is_file() for row in rows)
    assert all(row["chosen"] != row["rejected"] for row in rows)


def test_long_answers_are_as_long_as_the_table_says(tmp_path: Path) -> None:
    workload = PairWorkload(name="long", says="long", answers="long", batch=4, steps=3)
    words = shapes.llava_processor(64).tokenizer
    rows = json.loads(pair_workloads.write(tmp_path / "data", workload).read_text())
    said = [row[side][0]["content"][0]["text"] for row in rows for side in ("chosen", "rejected")]
    lengths = [len(words(text)["input_ids"]) for text in said]
    assert 100 <= min(lengths) < max(lengths) <= 200
    assert len({row["chosen"][0]["content"][0]["text"] for row in rows}) == len(rows)


def test_trl_is_given_our_samplers_pairs_from_short_to_long(train: Path) -> None:
    rows = json.loads(train.read_text())
    steps = pair_workloads.steps(rows, SMALL, 2)
    assert [len(step) for step in steps] == [4, 4]
    assert all(len({row["images"][0] for row in step}) == 2 for step in steps)
    made = theirs_dpo.dataset(steps, train.parent)
    given = [row for step in steps for row in step]
    assert [row["chosen"] for row in made] == [row["chosen"] for row in given]
    assert [row["prompt"][0]["content"][1]["text"] for row in made] == [
        row["prompt"][0]["content"][1]["text"] for row in given
    ]
    assert made[0]["images"][0].size == PHOTO


def test_what_is_computed_ahead_of_the_first_step_counts() -> None:
    measured = {
        "ends": [0.0, 10.0, 12.0], "work": [0.0, 8.0, 9.0], "loaded": 1, "peak": 2, "tensors": 0,
        "losses": [], "waits": [], "ids": [],
    }  # fmt: skip
    found = comparing.figures(measured, SMALL)
    assert found["samples_per_second"] == pytest.approx(8 / 12.0)
    assert found["processor_seconds_per_sample"] == pytest.approx(9.0 / 8)


@pytest.mark.parametrize("side", ["ours", "ours_live"])
def test_our_config_is_one_that_fit_reads(tmp_path: Path, side: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench = against_trl_dpo.PairBench(SMALL, tmp_path, 1)
    run = bench.asked(side, 2, None, tmp_path)
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(ours.settings(run, tmp_path)), encoding="utf-8")
    made = printed(capsys, "--config", str(config))
    model, data = made["model"]["init_args"], made["data"]["init_args"]
    assert (model["reference_store"] is None) == (data["feature_cache"] is None) == (side == "ours_live")
    assert model["losses"][0]["beta"] == run["beta"] == 0.1
    assert model["parts"]["language_model"]["precision"] == "fp32"
    assert data["max_length"] is None
    assert run["max_steps"] == len(run["steps"]) == 2


def test_a_step_with_other_pairs_is_noticed(train: Path) -> None:
    steps = pair_workloads.steps(json.loads(train.read_text()), SMALL, 2)
    ids = [sorted({ours.record_id(f"{row['id']}/{side}") for row in step for side in ("chosen", "rejected")})
           for step in steps]  # fmt: skip
    against_trl.check_order([{"ids": ids}], steps)
    with pytest.raises(SystemExit, match="different conversations"):
        against_trl.check_order([{"ids": ids[::-1]}], steps)


def test_the_table_has_a_row_for_each_reference_and_opponent() -> None:
    sides = {"ours": 9.0, "ours_live": 6.0, "trl": 3.0}
    runs = [run_of(side, speed, 30, [2.0]) for side, speed in sides.items()]
    counted = {"ours": 10, "ours_live": 12, "trl": 40}
    compared = [comparing.comparison(runs, counted, "trl", own) for own in ("ours", "ours_live")]
    result = {"workload": {"says": "a workload"}, "feature_cache": True, "runs": runs, "comparisons": compared}
    rows = plots.pairs_table({"results": [result]}).splitlines()[2:]
    assert rows == [
        "| a workload | stored, features too | TRL | 9.00, 3.00 "
        "| 3.00x (3.00 to 3.00) | 3.00x (3.00 to 3.00) | 0.25x | 0e+00 |",
        "| a workload | live | TRL | 6.00, 3.00 | 2.00x (2.00 to 2.00) | 2.00x (2.00 to 2.00) | 0.30x | 0e+00 |",
    ]


def test_a_workload_measured_again_takes_the_place_of_its_result() -> None:
    def result(name: str, rows: int, repeats: int) -> dict[str, Any]:
        return {
            "workload": {"name": name},
            "repeats": repeats,
            "runs": [{"side": "ours", "micro_batch": rows}, {"side": "trl", "micro_batch": 1}],
        }

    kept, again = [result("a", 1, 1), result("b", 1, 1)], result("a", 1, 3)
    assert comparing.with_result(kept, again) == [again, kept[1]]
    for other in (result("c", 1, 1), result("a", 2, 1)):  # another workload, and the same with another micro-batch
        assert comparing.with_result(kept, other) == [*kept, other]
