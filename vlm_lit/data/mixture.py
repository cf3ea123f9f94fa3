"""Mixture of sources by exact weights: how often an epoch visits each source, and which of its records.

An epoch has as many visits as there are records in all; of these each source gets its weight's share, rounded to whole
visits by largest remainder. A source's records are visited in a random order, and in another once all were, across
epochs: none is visited again before every other of its source. All of it follows from (seed, epoch).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from vlm_lit.errors import ConfigError


@dataclass(frozen=True)
class Mixture:
    """Sources that follow one another in a data set.

    Args:
        names: what messages call them.
        sizes: records of each.
        weights: shares of the visits, in any unit.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.sizes):
            raise ConfigError(
                f"weights has {len(self.weights)} numbers for {len(self.sizes)} sources. Write path as a list, and a "
                "weight for each of its entries."
            )
        if not all(0 < weight < float("inf") for weight in self.weights):
            raise ConfigError(
                f"weights is {list(self.weights)}; each must be above 0. Leave a source out of path instead."
            )
        empty = [name for name, size in zip(self.names, self.sizes, strict=True) if not size]
        if empty:
            raise ConfigError(f"{empty[0]} gives no record to mix; raise limit, or leave it out.")

    @property
    def visits(self) -> tuple[int, ...]:
        """Visits of each source in an epoch."""
        total, whole = sum(self.sizes), sum(map(Fraction, self.weights))
        exact = [total * Fraction(weight) / whole for weight in self.weights]
        counts = [int(share) for share in exact]
        remainders = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
        for k in remainders[: total - sum(counts)]:
            counts[k] += 1
        return tuple(counts)

    def members(self, seed_of: Callable[[int, int], int], epoch: int) -> list[int]:
        """The records that epoch `epoch` visits, as indices into the whole, source by source.

        Args:
            seed_of: the seed of a source's walk, by the source's number and the walk's.
            epoch: which epoch it is.
        """
        found: list[int] = []
        begin = 0
        for k, (size, count) in enumerate(zip(self.sizes, self.visits, strict=True)):
            first, last = epoch * count, (epoch + 1) * count
            for walk in range(first // size, -(-last // size)):
                order = _order(size, seed_of(k, walk))
                found += [begin + i for i in order[max(0, first - walk * size) : last - walk * size]]
            begin += size
        return found

    def lines(self) -> Iterator[str]:
        """What an epoch visits, a sentence a source."""
        total = sum(self.sizes)
        for name, size, visits in zip(self.names, self.sizes, self.visits, strict=True):
            yield (
                f"{name}: {visits:,} of {total:,} visits an epoch ({visits / total:.2%}), {visits / size:.3g} for each "
                f"of its {size:,} records."
            )


def _order(n: int, seed: int) -> Sequence[int]:
    order: list[int] = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    return order
