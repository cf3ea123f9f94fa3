"""Products with frozen float32 weights by oneDNN against MKL, on this machine: what `frozen_products.py` follows.

    python scripts/benchmark/products.py --output scripts/benchmark/results/products.json

Both take turns in one process, forward (x W^T) and backward (g W). Shapes are those of the benchmark's models, of LoRA
of rank 16, of the head of a vocabulary of 32,000 and of a 7B's attention. "Times as fast" is the median over
neighbouring turns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import provenance
import torch
from torch import Tensor, nn

from vlm_lit.models.frozen_products import onednn_linear

WEIGHTS: Final = ((16, 512), (128, 256), (384, 384), (512, 512), (1376, 512), (512, 1376), (32000, 512), (4096, 4096))
"""Outputs and inputs."""
TOKENS: Final = (1, 4, 32, 385, 1540)


def compared(x: Tensor, weight: Tensor, turns: int) -> dict[str, Any]:
    """Seconds of both for inputs [N, I] and a weight [O, I]."""
    ways: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (nn.functional.linear, onednn_linear)
    seconds: list[list[float]] = [[], []]
    for turn in range(-2, turns):
        for way, taken in zip(ways, seconds, strict=True):
            begin = time.perf_counter()
            way(x, weight)
            if turn >= 0:
                taken.append(time.perf_counter() - begin)
    ratios = [mkl / other for mkl, other in zip(*seconds, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return {"mkl": median(seconds[0]), "onednn": median(seconds[1]), "ratio": median(ratios), "quartiles": [low, high]}


def measured(turns: int) -> list[dict[str, Any]]:
    """A result for each weight, number of tokens and direction."""
    found = []
    for outputs, inputs in WEIGHTS:
        weight = torch.randn(outputs, inputs)
        for tokens in TOKENS:
            for direction, seen in (("forward", weight), ("backward", weight.T)):
                one = {"outputs": outputs, "inputs": inputs, "tokens": tokens, "direction": direction}
                found.append(one | compared(torch.randn(tokens, seen.shape[1]), seen, turns))
                print(", ".join(map(str, one.values())), f"{found[-1]['ratio']:.2f} times as fast", flush=True)
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    products = measured(options.turns)
    if options.output is not None:
        result = {**provenance.of_this_run(), "threads": options.threads, "products": products}
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
