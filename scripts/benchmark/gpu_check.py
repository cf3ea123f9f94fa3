"""Check of a GPU: the tests marked gpu, then the speed and memory of both 7B shapes, ours and TRL's.

    python scripts/benchmark/gpu_check.py --output scripts/benchmark/results/gpu.json
    python scripts/benchmark/gpu_check.py --shapes tiny --device cpu --most-rows 2      # the same lines, on a CPU

Needs no network: weights are drawn at random on the device, written to --scratch in shards (15 GB a shape, removed
again) and loaded as a user's checkpoint would be. What is measured, by micro-batch: samples and tokens a second,
share of the bf16 matrix peak measured here, peak memory, the time's split into data, vision, language model and head,
and the kernels of a step; then the answers of a test. TRL's part is left out where TRL is not installed.

The check goes on where it was stopped: what an --output of the same commit, device and options holds is not measured
again. A part that takes longer than --part-seconds is ended, and what it had measured until then is kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import gpu_shapes
import provenance
import torch
import workloads
from workloads import Workload

from vlm_lit.files.whole import write_whole

HERE: Final = Path(__file__).parent
QUESTIONS: Final = 5
SIZES: Final = {"7b": ["llava15_7b", "qwen25vl_7b"], "tiny": ["llava_tiny", "qwen25vl_tiny"]}
_BF16: Final = {"precision": "bf16"}
PARTS: Final = {
    "vision_tower": _BF16,
    "projector": {**_BF16, "training": "full"},
    "language_model": {"precision": "nf4", "training": "lora"},
    "head": _BF16,
}


def gpu_tests(seconds: float) -> dict[str, Any]:
    """Run the tests marked gpu; how that ended, and its last lines."""
    root = HERE.parents[1]
    marked = [str(file) for file in sorted((root / "tests").rglob("test_*.py")) if "mark.gpu" in file.read_text()]
    # Versions are not those that were tested, so a warning is not an error here.
    words = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "-W", "default", "--durations=5", *marked]
    apart = ["-n", "4"] if find_spec("xdist") is not None and torch.cuda.is_available() else []
    command = [sys.executable, "-m", "pytest", *words, *apart]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        return {"verdict": f"stopped after {seconds:.0f} s", "tail": _text(late.stdout)[-3000:]}
    verdicts = {0: "passed", 4: "pytest knows no such mark", 5: "there are none"}
    return {"verdict": verdicts.get(done.returncode, "failed"), "tail": (done.stdout + done.stderr)[-6000:]}


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def matrix_peak(device: str) -> dict[str, float]:
    """The most TFLOP/s of a bf16 matrix product found here, over three sizes."""
    sides = (4096, 8192, 16384) if device == "cuda" else (256, 512)
    return {str(side): _product_speed(side, device) / 1e12 for side in sides}


def _product_speed(side: int, device: str, seconds: float = 0.5) -> float:
    a, b = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    for _ in range(3):
        a @ b
    rounds, begin = 0, _now(device)
    while (spent := _now(device) - begin) < seconds:
        for _ in range(5):
            a @ b
        rounds += 5
    return 2 * side**3 * rounds / spent


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def asked(shape: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What a side is told: the configuration of configs/model/llava15_7b_qlora.yaml, dropout off."""
    stages, steps_of_a_stage = options.most_rows.bit_length(), 3 + 2 * options.workers  # a worker prepares two ahead
    batch = QUESTIONS * options.most_rows
    work = Workload(
        name=shape, says=shape, questions=QUESTIONS, batch=batch, steps=max(2, steps_of_a_stage), passes=max(2, stages)
    )
    train = workloads.write(folder / "data", work)
    steps = workloads.steps_of(json.loads(train.read_text()), work, QUESTIONS)
    return {
        "checkpoint": str(folder / "checkpoint"),
        "train": str(train),
        "steps": steps,
        "max_steps": len(steps),
        "batch": work.batch,
        "micro_batch": 1,
        "most_rows": options.most_rows,
        "questions": QUESTIONS,
        "passes": work.passes,
        "parts": PARTS,
        "lora": {"rank": 16, "alpha": 32.0, "dropout": 0.0, "targets": ["attention"]},
        "compute": "bf16",
        "autocast": True,
        "device": options.device,
        "checkpointing": not options.no_checkpointing,
        "learning_rate": 2e-4,
        "seed": workloads.SEED,
        "head": "as_shipped",
        "data": {"questions_per_row": QUESTIONS, "num_workers": options.workers},
        "eval_batch": QUESTIONS * min(8, options.most_rows),
        "max_new_tokens": 16,
    }


def side(name: str, run: dict[str, Any], folder: Path, seconds: float) -> dict[str, Any]:
    """One side in a process of its own; an error is a result too, and what was measured before it."""
    request, result = folder / f"{name}.json", folder / f"{name}.result.json"
    request.write_text(json.dumps(run))
    command = [sys.executable, str(HERE / "gpu_sides.py"), name, str(request), str(result)]
    begun, ended = time.perf_counter(), dict[str, Any]()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        if done.returncode:
            print(done.stderr[-3000:], file=sys.stderr)
            ended = {"error": done.stderr[-3000:]}
    except subprocess.TimeoutExpired:
        ended = {"stopped": f"after {seconds:.0f} s"}
    found: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
    return found | {"seconds": time.perf_counter() - begun} | ended


def with_peak_share(found: dict[str, Any], peak: float) -> dict[str, Any]:
    """The same figures, each with its share of the matrix peak (a fraction)."""
    stages = [{**stage, "peak_share": stage["tflops"] / peak} for stage in found.get("micro_batches", [])]
    return {**found, "micro_batches": stages} if stages else found


def reckoned(folder: Path, *, checkpointing: bool) -> dict[int, int]:
    """The bytes that `python -m vlm_lit budget` says of our run, by micro-batch; empty where it could not say."""
    config, found = folder / "ours.result.yaml", folder / "budget.json"
    command = [sys.executable, "-m", "vlm_lit", "budget", "--config", str(config), "--format", "json", "--output"]
    done = subprocess.run([*command, str(found)], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        return {}
    recipe = next(recipe for recipe in json.loads(found.read_text())["recipes"] if recipe["configured"])
    stages = [stage for stage in recipe["micro_batches"] if stage["activation_checkpointing"] == checkpointing]
    return {stage["rows"]: stage["total"] for stage in stages}


def check(result: dict[str, Any], peak: float, options: argparse.Namespace, keep: Callable[[], None]) -> None:
    """Make a shape, measure on it what `result` does not hold yet, remove it.

    Args:
        result: of the shape; what is found is added.
        keep: writes all results down.
    """
    shape = result["shape"]
    missing = [name for name in sides() if name not in result or "error" in result[name]]
    if not missing:
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder, begun = Path(name), time.perf_counter()
        result["parameters"] = gpu_shapes.save(folder / "checkpoint", shape, options.device)
        result["saved_seconds"] = time.perf_counter() - begun
        run = asked(shape, folder, options)
        for which in missing:
            found = with_peak_share(side(which, run, folder, options.part_seconds), peak)
            if which == "ours":
                budget = reckoned(folder, checkpointing=run["checkpointing"])
                for stage in found.get("micro_batches", []):
                    stage["reckoned_bytes"] = budget.get(stage["micro_batch"])
            result[which] = found
            keep()
            for stage in found.get("micro_batches", []):
                print(f"{shape}: {which}: {line(stage)}", flush=True)
            if "questions_per_second" in found:
                print(f"{shape}: {found['questions_per_second']:.1f} questions/s answered", flush=True)


def sides() -> list[str]:
    """What is measured on a shape."""
    return ["ours", "answers", *(["trl"] if find_spec("trl") is not None else [])]


def line(stage: dict[str, Any]) -> str:
    """A micro-batch's figures in words."""
    shares = ", ".join(f"{part} {share:.0%}" for part, share in stage["shares"].items())
    reckoned = stage.get("reckoned_bytes")
    return (
        f"micro_batch {stage['micro_batch']}: {stage['samples_per_second']:.2f} samples/s, "
        f"{stage['tokens_per_second']:.0f} tokens/s, {stage['peak_share']:.1%} of the matrix peak, "
        f"{stage['peak_bytes'] / 2**30:.1f} GiB"
        + (f" ({reckoned / 2**30:.1f} reckoned by budget)" if reckoned is not None else "")
        + f"; {shares}"
    )


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=list(SIZES), default="7b")
    parser.add_argument("--only", choices=list(gpu_shapes.SHAPES), help="one shape instead of both")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--most-rows", type=int, default=64, help="largest micro-batch to try; a power of two")
    parser.add_argument("--workers", type=int, default=2, help="processes that prepare our data, and TRL's")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep activations instead of recomputing them")
    parser.add_argument("--skip-tests", action="store_true")
    parser.add_argument("--part-seconds", type=float, default=120.0, help="longest time of a part, in seconds")
    parser.add_argument("--commit", help="of the code, where it is not a clone")
    parser.add_argument("--scratch", type=Path, help="where checkpoints go; default: the system's temporary folder")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


def main() -> None:
    """Check everything; the file is written anew after every part."""
    options = parsed()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here. To run the same lines on a CPU: --shapes tiny --device cpu")
    found = begun_or_new(options)

    def keep() -> None:
        if options.output is not None:
            write_whole(options.output, json.dumps(found, indent=1) + "\n")

    if not options.skip_tests and found.get("tests", {}).get("verdict") != "passed":
        found["tests"] = gpu_tests(options.part_seconds)
        print(f"tests marked gpu: {found['tests']['verdict']}", flush=True)
        keep()
    if "matrix_tflops" not in found:
        found["matrix_tflops"] = matrix_peak(options.device)
        keep()
    peak = max(found["matrix_tflops"].values())
    print(f"bf16 matrix peak: {peak:.1f} TFLOP/s", flush=True)
    held = {result["shape"]: result for result in found["results"]}
    for shape in [options.only] if options.only else SIZES[options.shapes]:
        if shape not in held:
            held[shape] = {"shape": shape}
            found["results"].append(held[shape])
        check(held[shape], peak, options, keep)


def begun_or_new(options: argparse.Namespace) -> dict[str, Any]:
    """The results that the output file holds, where they are of this commit, device and these options; else none."""
    about = provenance.of_this_run()
    about["commit"] = options.commit or about["commit"]
    about["options"] = {
        "questions_per_image": QUESTIONS,
        "checkpointing": not options.no_checkpointing,
        **{name: getattr(options, name) for name in ("most_rows", "workers", "part_seconds")},
    }
    if options.output is not None and options.output.exists():
        kept: dict[str, Any] = json.loads(options.output.read_text())
        if all(kept.get(name) == about[name] for name in ("commit", "device", "versions", "options")):
            return kept
    return {**about, "results": []}


if __name__ == "__main__":
    main()
