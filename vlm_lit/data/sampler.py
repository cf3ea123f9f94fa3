"""Deterministic batch sampler: what each optimizer step sees, a pure function of (seed, epoch, step, rank).

N = conversations, W = effective batch: the conversations of one optimizer step over all ranks, K = steps of one epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch.utils.data import Sampler

from vlm_lit.data.dealing import Dealing
from vlm_lit.data.mixture import Mixture
from vlm_lit.data.of_step import OfStep
from vlm_lit.data.run_length import full_steps_per_epoch
from vlm_lit.errors import ConfigError


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from any named quantities; equal parts give equal seeds on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def epoch_order(
    n: int,
    seed: int,
    epoch: int,
    groups: Sequence[Hashable | None] | None = None,
    most: int = 1,
    mixture: Mixture | None = None,
) -> tuple[int, ...]:
    """The order in which epoch `epoch` visits N conversations.

    Args:
        n: number of conversations.
        seed: what the order follows from.
        epoch: which epoch it is.
        groups: what each conversation shows; those that show the same are visited in runs of up to `most`, the runs in
            any order. None visits each on its own.
        most: longest run.
        mixture: which conversations the epoch visits, where that is not each of them once.
    """
    generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
    order: list[int] = torch.randperm(n, generator=generator).tolist()
    if mixture is not None:
        members = mixture.members(lambda source, walk: derive_seed("mixture", seed, source, walk), epoch)
        order = [members[i] for i in order]
    if groups is None:
        return tuple(order)
    runs: list[list[int]] = []
    filling: dict[Hashable, list[int]] = {}
    for i in order:
        run = filling.get(groups[i]) if groups[i] is not None else None
        if run is None or len(run) == most or i in run:
            run = []
            runs.append(run)
            filling[groups[i]] = run
        run.append(i)
    return tuple(i for k in torch.randperm(len(runs), generator=generator).tolist() for i in runs[k])


class StepSampler(Sampler[list[int]]):
    """Yields, per optimizer step, the indices of this rank's share of the global batch.

    Args:
        n: number of conversations.
        effective_batch: conversations an optimizer step sees over all ranks; an epoch's last step batch may hold fewer.
        steps: optimizer steps of the whole run.
        seed: what the order follows from.
        start: step to begin with, after a resumption.
        limit: steps after which an epoch ends early; null for whole epochs.
        rank, world: this process among all.
        groups, most, mixture: conversations to visit together, and how often each, see `epoch_order`.
        repeated: every epoch is the first one again.
        dealing: how a step's conversations are dealt to the ranks; by default as if each cost the same.
    """

    def __init__(
        self,
        n: int,
        *,
        effective_batch: int,
        steps: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        limit: int | None = None,
        groups: Sequence[Hashable | None] | None = None,
        most: int = 1,
        repeated: bool = False,
        mixture: Mixture | None = None,
        dealing: Dealing | None = None,
    ) -> None:
        if n < 1:
            raise ConfigError("The training data holds no conversation.")
        self.n, self.effective_batch, self.steps, self.seed = n, effective_batch, steps, seed
        self.start, self.rank, self.world = start, rank, world
        self.groups, self.most, self.mixture, self.repeated = groups, most, mixture, repeated
        self.dealing = dealing if dealing is not None else Dealing(keys=groups)
        self._order: tuple[int, tuple[int, ...]] | None = None
        self.epoch_steps = limit if limit is not None else full_steps_per_epoch(n, effective_batch)

    def __len__(self) -> int:
        # Lightning compares this with its own batch counter, which a resumed run continues; hence all steps.
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            yield self.indices(step)

    def indices(self, step: int) -> list[int]:
        """This rank's conversations of optimizer step `step`."""
        return OfStep(self.dealing.shares(self.all_ranks(step), self.world)[self.rank], step)

    def all_ranks(self, step: int) -> tuple[int, ...]:
        """All ranks' conversations of optimizer step `step`, in an order in which the number of ranks has no part."""
        epoch, k = divmod(step, self.epoch_steps)
        return self._epoch(0 if self.repeated else epoch)[k * self.effective_batch : (k + 1) * self.effective_batch]

    def _epoch(self, epoch: int) -> tuple[int, ...]:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order(self.n, self.seed, epoch, self.groups, self.most, self.mixture)
        return self._order[1]


class EpochSampler(Sampler[list[int]]):
    """The same steps for a loop that counts its epochs itself: each walk is one epoch, the one the loop is in.

    Args:
        steps: what each step of the run sees.
        current_epoch: the epoch that a walk begins.
        start: steps that were done before a resumption; the first walk goes on behind them.
    """

    def __init__(self, steps: StepSampler, current_epoch: Callable[[], int], start: int = 0) -> None:
        self.steps, self.current_epoch, self.start = steps, current_epoch, start

    def __len__(self) -> int:
        return full_steps_per_epoch(self.steps.n, self.steps.effective_batch)

    def __iter__(self) -> Iterator[list[int]]:
        size = self.steps.epoch_steps
        first = self.start or self.current_epoch() * size
        self.start = 0
        for step in range(first, (first // size + 1) * size):
            yield self.steps.indices(step)
