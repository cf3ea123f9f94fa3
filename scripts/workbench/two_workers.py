"""Two processes that train one of the workbench's base models together, each on half of every batch."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WORKERS: Final = 2


def start(run: Callable[..., None], *arguments: object) -> None:
    """Let each worker run `run(rank, *arguments, meeting)` to its end; `meeting` is for `meet`.

    Raises:
        SystemExit: a worker failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        context, meeting = multiprocessing.get_context("spawn"), f"file://{folder}/point"
        workers = [context.Process(target=run, args=(rank, *arguments, meeting)) for rank in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("A worker failed; its error is above. Start again to go on from the last checkpoint.")


def meet(rank: int, meeting: str) -> None:
    """Join the other worker, with one thread: threads would wait for each other at every layer."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORKERS)


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Give every worker the mean of all gradients."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    means = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient) / WORKERS)


def agree(seconds: float) -> float:
    """The first worker's clock, so that all change stage and stop together."""
    clock = torch.tensor([seconds], dtype=torch.float64)
    torch.distributed.broadcast(clock, 0)
    return float(clock)


def mean_or_zero(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, 0 where there is nothing to predict."""
    return F.cross_entropy(logits, targets, reduction="sum") / max(1, len(targets))
