"""Dealing of items to ranks so that these finish together: a pure function of what each item costs.

The cost of a row is its tokens, the padding of its micro-batch among them, and the vision tower's work on its images.
Items that show the same image go to one rank, where they share a row or the decoded image.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from typing import Final, NamedTuple

from vlm_lit.data.grouping import grouped

TOWER: Final = 1.0
"""What the vision tower's work on an image costs, as a share of what its tokens cost in the language model. By
parameters times tokens it is 0.04 for LLaVA-1.5-7B, and about 2 for SmolVLM, whose tower sees 9 patches a token."""


class ItemSize(NamedTuple):
    """What is known of an item's length before its images are decoded.

    Args:
        words: tokens of all its text.
        images: width and height of each of its images; None where that is not known.
    """

    words: int
    images: tuple[tuple[int, int] | None, ...] = ()


class ItemCost(NamedTuple):
    """What an item costs.

    Args:
        words: tokens of all its text.
        images: how many images it shows.
        pictures: tokens that stand for them.
    """

    words: int
    images: int = 0
    pictures: int = 0


_HALVINGS: Final = 30  # of what a block may cost at most; a billionth is below a token

UNKNOWN: Final = ItemCost(words=1)
"""The cost of each item where nothing is known of any."""


class DealtRow(NamedTuple):
    """A row: how many images and tokens it has, and what the vision tower's work on it costs."""

    images: int
    tokens: int
    tower: float


@dataclass(frozen=True, kw_only=True)
class Dealing:
    """How the items of a step batch are dealt to ranks.

    Args:
        costs: what each item of the data set costs; None where that is not known: all cost the same then.
        keys: what names each item's images; None where no two items are to stay together.
        shared: whether items of one key share a row.
        rows: most rows of a micro-batch, as the config states it: what a rank lowers it to is not known to the others.
        tower: what the vision tower's work on an image costs, as a share of what its tokens cost; 0 where its features
            are read from disk.
    """

    costs: Sequence[ItemCost] | None = None
    keys: Sequence[Hashable | None] | None = None
    shared: bool = False
    rows: int = 1
    tower: float = TOWER

    def shares(self, items: Sequence[int], world: int) -> list[list[int]]:
        """Each rank's items, in the order in which the step batch has them; a rank may have none.

        Dealt in two ways, of which the one is taken whose busiest rank has less to do.

        Args:
            items: the items of a step batch, by their index in the data set.
            world: how many ranks there are.
        """
        if world == 1:
            return [list(items)]
        groups = self._groups(items)
        rows = [self._rows([items[i] for i in group]) for group in groups]
        found = [self._largest_first(rows, world)]
        if all(len(one) == 1 for one in rows):
            found.append(self._in_blocks([row for (row,) in rows], world))
        # Where both are as far apart, the one that pads less is taken, else the first, which leaves fewer ranks idle.
        best = min(found, key=lambda dealt: self._loads([[rows[k] for k in one] for one in dealt]))
        places = [sorted(place for k in one for place in groups[k]) for one in best]
        return [[items[place] for place in one] for one in places]

    def _largest_first(self, rows: Sequence[list[DealtRow]], world: int) -> list[list[int]]:
        """Groups by rank: the one that costs most is dealt first, each to the rank that has least so far."""
        order = sorted(range(len(rows)), key=lambda k: -self._load(rows[k]))  # equals stay in their order
        shares: list[list[int]] = [[] for _ in range(world)]
        held: list[list[DealtRow]] = [[] for _ in range(world)]
        loads = [(0.0, rank) for rank in range(world)]
        for k in order:
            rank = loads[0][1]
            shares[rank].append(k)
            for row in rows[k]:
                insort(held[rank], row)
            heapreplace(loads, (self._load(held[rank]), rank))
        return shares

    def _in_blocks(self, rows: Sequence[DealtRow], world: int) -> list[list[int]]:
        """Rows by rank: neighbours by length, few where they are long and many where short; so little is padded."""
        order = sorted(range(len(rows)), key=lambda k: rows[k])
        most = self._load([rows[k] for k in order])
        least, best = most / world, [order, *[list[int]() for _ in range(world - 1)]]
        for _ in range(_HALVINGS):
            middle = (least + most) / 2
            blocks = self._blocks(rows, order, middle)
            if len(blocks) <= world:
                most, best = middle, [*blocks, *[list[int]() for _ in range(world - len(blocks))]]
            else:
                least = middle
        return best

    def _blocks(self, rows: Sequence[DealtRow], order: Sequence[int], most: float) -> list[list[int]]:
        """Neighbours in blocks that cost at most so much each; a row that costs more is alone."""
        blocks: list[list[int]] = []
        load, last = 0.0, list[DealtRow]()  # of the block's last micro-batch the rows
        for k in order:
            row = rows[k]
            joins = bool(last) and len(last) < self.rows and last[0].images == row.images
            more = row.tower + row.tokens + (len(last) * (row.tokens - last[-1].tokens) if joins else 0)
            if not blocks or load + more > most:
                blocks.append([])
                load, joins, more = 0.0, False, row.tower + row.tokens
            last = [*last, row] if joins else [row]
            blocks[-1].append(k)
            load += more
        return blocks

    def loads(self, shares: Sequence[Sequence[int]]) -> list[float]:
        """What each rank's items cost, in tokens."""
        return [self._load(sorted(row for rows in self._all_rows(share) for row in rows)) for share in shares]

    def _all_rows(self, items: Sequence[int]) -> list[list[DealtRow]]:
        return [self._rows([items[i] for i in group]) for group in self._groups(items)]

    def _loads(self, dealt: Sequence[Sequence[list[DealtRow]]]) -> tuple[float, float]:
        """What the rank with most to do has, and what all have."""
        loads = [self._load(sorted(row for rows in one for row in rows)) for one in dealt]
        return max(loads), sum(loads)

    def _groups(self, items: Sequence[int]) -> list[list[int]]:
        """Places in a step batch, those of items that stay together as one group."""
        keys = [None if self.keys is None else self.keys[i] for i in items]
        return grouped(range(len(items)), keys)

    def _rows(self, items: Sequence[int]) -> list[DealtRow]:
        """The rows of items that stay together, from short to long."""
        costs = [UNKNOWN if self.costs is None else self.costs[i] for i in items]
        if self.shared and len(costs) > 1:
            first = costs[0]
            costs = [ItemCost(sum(cost.words for cost in costs), first.images, first.pictures)]
        return sorted(DealtRow(cost.images, cost.words + cost.pictures, self.tower * cost.pictures) for cost in costs)

    def _load(self, rows: Sequence[DealtRow]) -> float:
        """What rows cost in micro-batches as the collator cuts them: neighbours by length with equally many images.

        Args:
            rows: the rows, by number of images and then by tokens.
        """
        total, at = 0.0, 0
        while at < len(rows):
            end = at + 1
            while end < len(rows) and end - at < self.rows and rows[end].images == rows[at].images:
                end += 1
            total += (end - at) * rows[end - 1].tokens
            at = end
        return total + sum(row.tower for row in rows)


def dealt(costs: Sequence[float], world: int) -> list[list[int]]:
    """Places of pieces of work, by rank, each rank's in ascending order; the costliest is dealt first."""
    loads = [(0.0, rank) for rank in range(world)]
    shares: list[list[int]] = [[] for _ in range(world)]
    for place in sorted(range(len(costs)), key=lambda i: -costs[i]):
        load, rank = loads[0]
        shares[rank].append(place)
        heapreplace(loads, (load + costs[place], rank))
    return [sorted(share) for share in shares]
