"""From fine-tuning to preferences: a model that names things which are not there learns from its own answers not to.

Each step is the command a user would type; this script only types them, for each seed: fine-tuning on questions about
the workbench's shifted pictures and on descriptions of them, pairs of the tuned model's own descriptions (one that
names no thing which is not on its picture, and one that does), DPO on these pairs. Then both models describe 200
pictures that neither has seen, answer the plain questions about them, and are compared item by item.

python scripts/workbench/preferences.py --seeds 42 43 44
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

BENCH: Final = Path("workbench_shifted")
OBJECTS: Final = BENCH / "objects.json"
DESCRIBE, DPO = "configs/workbench_describe.yaml", "configs/workbench_dpo.yaml"
HALLUCINATION: Final = f"--model.init_args.metrics=[{{name: chair, options: {{objects: {OBJECTS}}}}}]"
DESCRIPTIONS: Final = f"--data.init_args.test.path={BENCH / 'describe_test.json'}"
HELD_OUT: Final = {
    "sampled": (DESCRIPTIONS, HALLUCINATION, "--model.init_args.sampling.temperature=1"),
    "likeliest": (DESCRIPTIONS, HALLUCINATION),
    "questions": (f"--data.init_args.test.path={BENCH / 'test.json'}",),
}
"""What each model is tested by: descriptions drawn as those of the pairs were, the likeliest ones, plain questions."""


def vlm_lit(*arguments: object) -> None:
    """Type one command; stop if it fails."""
    words = [str(argument) for argument in arguments]
    print("\n$ python -m vlm_lit " + " ".join(words), flush=True)
    done = subprocess.run([sys.executable, "-m", "vlm_lit", *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Draw the pictures, and tell the story for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="of the runs; the pictures stay the same")
    parser.add_argument("--runs", type=Path, default=Path("runs/preferences"), help="folder of the runs")
    options = parser.parse_args()
    if not BENCH.exists():
        vlm_lit(
            "workbench", "--output", BENCH, "--dialect", "plain", "--look", "shifted", "--descriptions",
            "--val_images", 100, "--test_images", 200,
        )  # fmt: skip
    for seed in options.seeds:
        begun = time.monotonic()
        tell(seed, options.runs / f"seed{seed}")
        print(f"\nSeed {seed} took {(time.monotonic() - begun) / 60:.1f} minutes.", flush=True)


def tell(seed: int, runs: Path) -> None:
    """One seed: SFT, pairs, DPO, and both models on the held-out pictures."""
    described, preferred, pairs = runs / "described", runs / "preferred", BENCH / f"pairs-{seed}.jsonl"
    seeded = ("--seed_everything", seed)
    vlm_lit("fit", "--config", DESCRIBE, *seeded, "--run_dir", described, "--trainer.limit_val_batches", 0)
    vlm_lit(
        "pairs", "--from", described, "--data.init_args.predict.path", BENCH / "describe_train.json", "--seed", seed,
        "--metric", "chair", "--options.objects", OBJECTS, "--length_ratio", 1.2, "--output", pairs,
    )  # fmt: skip
    vlm_lit(
        "fit", "--config", DPO, *seeded, "--run_dir", preferred, "--model.init_args.adapter", described / "adapter",
        "--model.init_args.reference_store", runs / "reference", "--data.init_args.train.path", pairs,
    )  # fmt: skip
    for asked, options in HELD_OUT.items():
        tested = {run: runs / f"{run.name}-{asked}" for run in (described, preferred)}
        for run, folder in tested.items():
            vlm_lit("test", "--from", run, "--run_dir", folder, *options)
        vlm_lit("compare", *reversed(tested.values()), "--output", runs / f"compared-{asked}")


if __name__ == "__main__":
    main()
