"""Tests of the benchmark's pure parts: they compare what they say they compare. Nothing is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import against_trl
import comparing
import gpu_check
import gpu_kernels
import gpu_shapes
import ours
import plots
import provenance
import pytest
import shapes
import studies
import torch
import workloads
from gpu_split import Split
from measuring import Measured
from transformers import AutoModelForImageTextToText
from workloads import Workload

from tests.support.bench_runs import run_of
from vlm_lit.data.checkpoint.processors import load_processor
from vlm_lit.data.conversations.conversations import to_conversation
from vlm_lit.data.images.images import load_images
from vlm_lit.data.records.records import read_records
from vlm_lit.data.rows.encoding import Encoder
from vlm_lit.data.rows.masking import Transcript
from vlm_lit.models.families import FAMILIES
from vlm_lit.schema import IGNORE_INDEX, TokenBatch

SMALL = Workload(name="small", says="small", image_tokens=64, questions=2, batch=4, steps=2)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small workload's file."""
    return workloads.write(tmp_path_factory.mktemp("bench") / "data", SMALL)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL, written as the 7B one is."""
    folder = tmp_path_factory.mktemp("bench") / "qwen"
    gpu_shapes.save(folder, "qwen25vl_tiny", "cpu")
    return folder


def batch(train: Path, processor: Any, conversations: int) -> TokenBatch:
    """The first conversations of a workload, encoded as ours encodes them."""
    made = [to_conversation(r, requires_answer=True) for r in read_records(train)][:conversations]
    return Encoder(Transcript(processor)).encode(made, [load_images(c) for c in made], side="right")


def generated(processor: Any, row: dict[str, Any], picture: object) -> tuple[list[int], list[int]]:
    """Token ids and generation mask of a row as TRL asks the processor for them."""
    question, answer = (turn["value"].removeprefix("<image>\n") for turn in row["conversations"])
    messages = [
        {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]},
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]
    output = processor.apply_chat_template(
        [messages],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"add_special_tokens": False},
    )
    return output["input_ids"][0].tolist(), torch.as_tensor(output["assistant_masks"])[0].tolist()


@pytest.mark.parametrize("shape", ["llava", "smolvlm", "qwen"])
def test_both_sides_supervise_the_same_tokens(train: Path, qwen: Path, shape: str) -> None:
    processors: dict[str, Callable[[], Any]] = {
        "llava": lambda: shapes.llava_processor(64),
        "smolvlm": shapes.smolvlm_processor,
        "qwen": lambda: load_processor(str(qwen)),
    }
    processor = processors[shape]()
    rows = json.loads(train.read_text())
    encoded = batch(train, processor, 3)
    for i, row in enumerate(rows[:3]):
        (picture,) = load_images(to_conversation(list(read_records(train))[i], requires_answer=True))
        ids, mask = generated(processor, row, picture)
        assert encoded.inputs["input_ids"][i, : len(ids)].tolist() == ids
        assert (encoded.labels[i, : len(ids)] != IGNORE_INDEX).int().tolist() == mask
        assert sum(mask) >= 2  # a word and the end


def test_a_workload_asks_each_picture_its_questions(train: Path) -> None:
    rows = json.loads(train.read_text())
    assert len(rows) == SMALL.conversations == 12
    assert [row["image"] for row in rows[0::2]] == [row["image"] for row in rows[1::2]]
    assert len({row["image"] for row in rows}) == 6
    assert all((train.parent / row["image"]).is_file() for row in rows)


def test_the_other_side_is_given_our_samplers_steps_from_short_to_long(train: Path) -> None:
    rows = json.loads(train.read_text())
    steps = workloads.steps_of(rows, SMALL, questions_per_row=2)
    assert [len(step) for step in steps] == [4, 4, 4]
    assert sorted(row["id"] for step in steps for row in step) == sorted(row["id"] for row in rows)
    for step in steps:
        lengths = [sum(len(turn["value"]) for turn in row["conversations"]) for row in step]
        assert lengths == sorted(lengths)
        assert len({row["image"] for row in step}) == 2  # questions about a picture are in one step


def test_a_step_with_other_conversations_is_noticed(train: Path) -> None:
    steps = workloads.steps_of(json.loads(train.read_text()), SMALL, questions_per_row=2)
    ids = [sorted(row["id"] for row in step) for step in steps]
    against_trl.check_order([{"side": "ours", "ids": ids}], steps)
    with pytest.raises(SystemExit, match="different conversations"):
        against_trl.check_order([{"side": "ours", "ids": ids[::-1]}], steps)


def measured(ends: list[float], **more: Any) -> dict[str, Any]:
    """A side's raw measurements."""
    return {
        "ends": ends,
        "work": ends,
        "loaded": 100,
        "peak": 150,
        "tensors": 0,
        "losses": [2.0] * (len(ends) - 1),
        "waits": [0.01] * (len(ends) - 1),
        "ids": [],
        **more,
    }


def test_the_first_step_counts_only_where_the_whole_course_does() -> None:
    ends = [0.0, 10.0, 12.0, 14.0]
    one = comparing.figures(measured(ends), SMALL)
    assert one["samples_per_second"] == pytest.approx(4 * 2 / 4.0)
    assert one["above_bytes"] == 50
    course = Workload(name="w", says="w", batch=4, steps=1, passes=3)
    assert comparing.figures(measured(ends), course)["samples_per_second"] == pytest.approx(4 * 3 / 14.0)


def test_ratios_are_of_neighbouring_runs_and_losses_of_the_same_step() -> None:
    runs = [
        run_of("ours", 8.0, 30, [2.0, 1.0]), run_of("trl", 2.0, 60, [2.0, 1.0]),
        run_of("ours", 6.0, 30, [2.0, 1.0]), run_of("trl", 1.0, 120, [2.0, 1.001]),
        run_of("ours", 8.0, 30, [2.0, 1.0]), run_of("trl", 1.6, 40, [2.0, 1.0]),
    ]  # fmt: skip
    found = comparing.comparison(runs, {"ours": 10, "trl": 40}, "trl")
    assert found["speed_ratios"] == pytest.approx([4.0, 6.0, 5.0])
    assert found["speed_ratio"] == pytest.approx(5.0)
    assert found["processor_ratios"] == pytest.approx([4.0, 6.0, 5.0])
    assert found["memory_ratio"] == pytest.approx(0.25)
    assert found["resident_ratio"] == pytest.approx(0.5)
    assert found["largest_relative_loss_difference"] == pytest.approx(1e-3, rel=1e-2)


def test_tables_say_what_the_file_says() -> None:
    runs = [run_of("ours", 8.0, 30, [2.0]), run_of("trl", 2.0, 60, [2.0])]
    result = {
        "workload": {"says": "a workload", "questions": 5, "image_tokens": 64},
        "runs": runs,
        "comparisons": [comparing.comparison(runs, {"ours": 10, "trl": 40}, "trl")],
    }
    table = plots.goals_table({"results": [result]})
    assert table.splitlines()[2] == (
        "| a workload | TRL | 1, 1 | 8.00, 2.00 | 4.00x (4.00 to 4.00) | 0.25x | 0.50x (0.50 to 0.50) | 0e+00 |"
    )
    figure = plots.growth_figure({"results": [result]})
    assert [line.get_ydata()[0] for line in figure.axes[0].get_lines()] == [8.0, 2.0]  # type: ignore[index]


def test_the_towers_table_has_both_sides_and_what_they_differ_by() -> None:
    runs = [{"side": side, "samples_per_second": speed} for side, speed in (("stored", 3.0), ("live", 1.5))]
    compared = {
        "own": "stored", "opponent": "live", "speed_ratio": 2.0, "speed_ratios": [1.9, 2.1], "processor_ratio": 2.5,
        "processor_ratios": [2.5], "resident_ratio": 0.75, "largest_relative_loss_difference": 2e-7,
    }  # fmt: skip
    found = {"comparison": compared, "runs": runs, "workload": {"says": "tiled"}, "last_layers": 1}
    row = plots.tower_table(found).splitlines()[-1]
    assert row == "| tiled | 1 | 3.00, 1.50 | 2.00x (1.90 to 2.10) | 2.50x (2.50 to 2.50) | 0.75x | 2e-07 |"
    assert "<!-- tower: written by plots.py -->" in (plots.HERE / "README.md").read_text(encoding="utf-8")


def test_the_gpus_table_shows_one_row_and_the_most_that_fit() -> None:
    stage: dict[str, Any] = {
        "samples_per_second": 5.0,
        "tokens_per_second": 50.0,
        "peak_share": 0.5,
        "peak_bytes": 2**31,
    }
    stages = [{**stage, "micro_batch": n, "shares": {"language_model": 0.75, "data": 0.25}} for n in (1, 2, 4)]
    stages[0]["kernels"] = {
        "busy": 0.9,
        "seconds": dict.fromkeys(gpu_kernels.KINDS, 0.0) | {"products": 3.0, "copies": 1.0},
    }
    answers = {"kernels": stages[0]["kernels"], "questions_per_second": 31.4}
    result = {"shape": "s", "ours": {"micro_batches": stages}, "answers": answers}
    steps, kernels = (part.splitlines()[2:] for part in plots.gpu_table({"results": [result]}).split("\n\n"))
    assert [row.split("|")[3].strip() for row in steps] == ["1", "4"]
    assert "50% | 2.0 | language model 75%, data 25%" in steps[0]
    assert [row.split("|")[2].strip() for row in kernels] == [
        "a step, vlm_lit, micro-batch 1",
        "answers, 31 questions/s",
    ]
    assert all(row.endswith("| 90% | 0% | 0% | 0% | 25% | 75% | 0% |") for row in kernels)


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = (plots.HERE / "README.md").read_text(encoding="utf-8")
    for name in ("goals", "growth", "pairs", "gpu"):
        changed = plots.between(text, name, "<first>")
        assert plots.between(changed, name, "<second>").replace("<second>", "<first>") == changed
        assert changed != text
    with pytest.raises(ValueError, match="There is no"):
        plots.between("no markers", "goals", "new")


def test_a_random_checkpoint_of_a_shape_loads_whole(qwen: Path) -> None:
    model, info = AutoModelForImageTextToText.from_pretrained(qwen, output_loading_info=True)
    assert {kind: list(names) for kind, names in info.items() if names} == {}
    assert model.dtype == torch.bfloat16
    drawn = model.model.language_model.layers[0].mlp.up_proj.weight.detach().float()
    assert float(drawn.std()) == pytest.approx(0.02, rel=0.1)


def test_the_large_shapes_have_the_parameters_of_their_checkpoints() -> None:
    for name, millions in {"llava15_7b": 7063, "qwen25vl_7b": 8292}.items():
        shape = gpu_shapes.SHAPES[name]
        with torch.device("meta"):
            model = shape.model(shape.config(shape.processor().tokenizer))
        assert sum(p.numel() for p in model.parameters()) // 10**6 == millions


def test_the_split_accounts_for_tower_language_model_and_head(train: Path) -> None:
    processor = shapes.llava_processor(64)
    config = gpu_shapes.SHAPES["llava_tiny"].config(processor.tokenizer)
    model: Any = gpu_shapes.SHAPES["llava_tiny"].model(config)
    model.model.vision_tower.requires_grad_(False)
    encoded = batch(train, processor, 2)
    split = Split(model, FAMILIES["llava"])
    split.start()
    split.mark("data")
    model(**encoded.inputs, labels=encoded.labels).loss.backward()
    split.mark("rest")
    assert set(split.shares()) == {"data", "vision", "language_model", "head", "rest"}
    assert sum(split.shares().values()) == pytest.approx(1.0)
    assert split.positions == {"vision": 2 * 65, "language_model": encoded.inputs["input_ids"].numel()}


def test_memory_counts_from_the_loaded_model_on() -> None:
    measured = Measured()
    measured.begin(torch.nn.Linear(4, 4))
    taken = torch.ones(2**24)  # 64 MiB
    measured.step()
    assert 2**26 <= measured.peak - measured.loaded < 2**27
    assert len(measured.ends) == len(measured.work) == 2
    del taken


def test_tensors_are_counted_at_their_peak_though_nothing_keeps_them() -> None:
    measured = Measured()
    measured.begin(torch.nn.Linear(4, 4), count_tensors=True)
    for _ in range(3):
        kept = torch.ones(2**20)
        more = torch.ones(2**20) + kept  # three of 4 MiB at once
        del kept, more
    measured.step()
    measured.finish()
    assert 3 * 2**22 <= measured.tensors < 3 * 2**22 + 2**16
    assert "tensors" in measured.as_dict()
    uncounted = Measured()
    uncounted.begin(torch.nn.Linear(4, 4))
    uncounted.finish()
    assert uncounted.tensors == 0


def test_a_side_takes_the_smallest_micro_batch_that_is_about_as_fast() -> None:
    class Timed(against_trl.Bench):
        def __init__(self) -> None:
            self.workload = SMALL

        def run(
            self, side: str, micro_batch: int, steps: int | None = None, *, count_tensors: bool = False
        ) -> dict[str, Any]:
            return {"micro_batch": micro_batch, "samples_per_second": {1: 8.0, 2: 9.1, 4: 10.0}[micro_batch]}

    taken, tried = Timed().chosen("ours", [1, 2, 4, 8])
    assert taken == 2
    assert [run["micro_batch"] for run in tried] == [1, 2, 4]


def test_our_config_is_one_that_fit_reads(train: Path, tmp_path: Path) -> None:
    bench = {"checkpoint": "x", "train": str(train), "batch": 4, "micro_batch": 1, "seed": 1, "passes": 1}
    run = {**bench, "max_steps": 2, "device": "cpu", "autocast": False, "compute": "fp32", "checkpointing": False}
    run |= {"parts": against_trl.PARTS, "lora": against_trl.LORA, "learning_rate": 1e-4, "data": {}}
    made = ours.settings(run, tmp_path)
    assert made["trainer"]["max_steps"] == 2
    assert made["model"]["init_args"]["parts"]["language_model"] == {"precision": "nf4", "training": "lora"}


def test_the_head_of_a_file_names_commit_and_versions() -> None:
    about = provenance.of_this_run()
    assert {"date", "commit", "versions", "device"} <= about.keys()
    assert gpu_check.parsed(["--shapes", "tiny", "--device", "cpu"]).most_rows == 64


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("products", "nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNN"),
        ("products", "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_64x6_tn_align8>"),
        ("attention", "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel::Params)"),
        ("attention", "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4>>"),
        ("unpacking", "void kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, 2>(float*, unsigned char*)"),
        ("optimizer", "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<TensorListMetadata<4>>"),
        ("copies", "Memcpy HtoD (Pinned -> Device)"),
        ("element_wise", "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>"),
    ],
)
def test_a_kernel_is_of_the_kind_that_its_name_says(kind: str, name: str) -> None:
    assert gpu_kernels.kind_of(name) == kind


def test_the_check_of_a_gpu_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"

    def begun(*more: str) -> dict[str, Any]:
        words = ["--device", "cpu", "--output", str(output), "--commit", "abc", *more]
        return gpu_check.begun_or_new(gpu_check.parsed(words))

    output.write_text(json.dumps({**begun(), "matrix_tflops": {"256": 1.0}}))
    assert begun()["matrix_tflops"] == {"256": 1.0}
    assert "matrix_tflops" not in begun("--commit", "def")
    assert "matrix_tflops" not in begun("--most-rows", "2")


@pytest.mark.slow
def test_the_check_of_a_gpu_runs_on_a_cpu_in_tiny_shapes(tmp_path: Path) -> None:
    script, output = Path(gpu_check.__file__), tmp_path / "gpu.json"
    words = ["--shapes", "tiny", "--device", "cpu", "--most-rows", "2", "--scratch", str(tmp_path)]
    done = subprocess.run([sys.executable, str(script), *words, "--output", str(output)], check=False)
    assert done.returncode == 0
    found = json.loads(output.read_text())
    assert found["tests"]["verdict"] == "passed"
    assert [shape["shape"] for shape in found["results"]] == ["llava_tiny", "qwen25vl_tiny"]
    for shape in found["results"]:
        assert [stage["micro_batch"] for stage in shape["ours"]["micro_batches"]] == [1, 2]
        assert all(stage["kernels"]["seconds"]["products"] > 0 for stage in shape["ours"]["micro_batches"])
        assert shape["answers"]["questions_per_second"] > 0


def test_a_study_is_kept_whole_and_its_claims_become_rows() -> None:
    claim = {
        "says": "Wide is better.", "source": "Paper, Table 3",
        "better": {"way": "wide", "bits": "4"}, "than": {"way": "a"},
        "difference": {"mean": 0.162, "ci95": [-0.01, 0.334]}, "seeds": [0, 1, 2], "verdict": "undecided",
    }  # fmt: skip
    report = {"study": "ways", "finished": True, "unfinished": [], "claims": [claim]}
    table = plots.studies_table([studies.kept(report)])
    assert table.splitlines()[2] == (
        "| `ways`, 3 seeds | Wide is better (Paper, Table 3) | wide, 4 minus a: +16.2 [-1.0, +33.4] | undecided |"
    )
    with pytest.raises(ValueError, match="ways is unfinished: way=a"):
        studies.kept({**report, "finished": False, "unfinished": ["way=a"]})
