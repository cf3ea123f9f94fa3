"""Stand-in for `python -m vlm_lit` in tests of the queue: `fit` in steps that leave checkpoints, then `test`.

Every step and every result is a file that must not be there yet, so whatever is done twice ends with an error.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

STEPS = 4


def main(verb: str, words: list[str]) -> None:
    options = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word)
    run = Path(options["run_dir"])
    resumed = words[-2:] == ["--ckpt_path", "last"]
    done = sorted((run / "checkpoints").glob("step-*.ckpt"))
    if resumed != bool(done):
        sys.exit(f"error: told to go on: {resumed}; checkpoints: {len(done)}")
    if verb == "test":
        with (run / "results.json").open("x") as file:
            json.dump({"metrics": {"accuracy": float(options.get("x", 0.5)) + int(options["seed_everything"])}}, file)
        return
    if options.get("x") == "13" and not Path("luck").exists():
        sys.exit("some words\nerror: out of luck")
    (run / "checkpoints").mkdir(exist_ok=True)
    for step in range(len(done), STEPS):
        time.sleep(float(options.get("pause", 0.02)))
        (run / "checkpoints" / f"step-{step:06d}.ckpt").touch(exist_ok=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
