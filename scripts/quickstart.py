"""Quickstart: base and tuned model on the same questions, side by side, in a few minutes on a CPU.

Each step is the command a user would type; this script only types them and lays the two results side by side.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CONFIG = "configs/quickstart.yaml"
BENCH, BASE, TUNED = Path("workbench"), Path("runs/quickstart/base"), Path("runs/quickstart/tuned")
PAGE = Path("runs/quickstart/comparison")


def vlm_lit(*arguments: str) -> None:
    """Type one command; stop if it fails."""
    command = [sys.executable, "-m", "vlm_lit", *arguments]
    print("\n$ python -m vlm_lit " + " ".join(arguments), flush=True)
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Draw, measure, fine-tune, measure again, compare."""
    for folder in (BENCH, BASE, TUNED, PAGE):
        shutil.rmtree(folder, ignore_errors=True)
    vlm_lit("workbench", "--output", str(BENCH))
    vlm_lit("test", "--config", CONFIG, "--run_dir", str(BASE))
    vlm_lit("fit", "--config", CONFIG)
    vlm_lit("test", "--config", CONFIG, "--ckpt_path", "last")
    print("\nVQA accuracy on held-out pictures, before and after fine-tuning:")
    vlm_lit("compare", str(TUNED), str(BASE), "--output", str(PAGE))
    print(f"\nRun directory:        {TUNED}")
    print(f"Sample predictions:   {TUNED / 'predictions.png'} (before: {BASE / 'predictions.png'})")
    print(f"The same to read:     {PAGE / 'comparison.html'}")
    print("Curves and pictures:  .venv/bin/tensorboard --logdir runs/quickstart")


if __name__ == "__main__":
    main()
