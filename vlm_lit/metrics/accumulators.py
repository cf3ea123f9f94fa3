"""Metrics over a data set: judged items added up to the same value, whatever the batches and ranks.

The state is one entry per item, not a running sum: a distributed sampler repeats items to even the ranks, and only
an id tells a repeat. Sums are `math.fsum`, which rounds once, so that the order of the items cannot show.

Strings do not travel between ranks, integers do. So ids and group names travel as 63-bit codes, and the strings
themselves as a stream of bytes from which every rank rebuilds the table of names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from hashlib import blake2b
from itertools import chain, starmap
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric

from vlm_lit.metrics.rules import Answer, Counts, Rule
from vlm_lit.metrics.summary import JudgedItem, judged_item, summarised


def stable_code(name: str) -> int:
    """Returns a 63-bit code of `name`, the same in every process (Python's `hash` is not).

    Among a million names, two share a code with probability 5e-8.
    """
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # 63 bits fit a signed int64


class ItemMetric(Metric):
    """A rule as a torchmetrics metric: its values over all items of all batches and ranks, overall and per group.

    Its state has n items of k counts and m (item, group) pairs: `codes` int64 [n], `counts` float64 [n, k],
    `memberships` int64 [m, 2], and `names` uint8: the strings behind the codes as JSON lists, one a line.

    Args:
        rule: how an item is counted, and what the sums say.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    codes: list[Tensor] | Tensor
    counts: list[Tensor] | Tensor
    memberships: list[Tensor] | Tensor
    names: list[Tensor] | Tensor

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        for state in ("codes", "counts", "memberships", "names"):
            self.add_state(state, default=[], dist_reduce_fx="cat")
        self.reset()

    @property
    def name(self) -> str:
        """What reports call this metric, every option that is not the default included."""
        return self.rule.name

    def reset(self) -> None:
        """Forgets every item."""
        super().reset()
        # A rank without items would otherwise sync as float32 [0], which its peers' int64 [m, 2] cannot meet.
        self._append([], [], [], b"")

    def update(
        self,
        predictions: Sequence[str],
        references: Sequence[Sequence[str]],
        ids: Sequence[str],
        groups: Sequence[Mapping[str, str]] | None = None,
        choices: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Judges a batch of items. The arguments are as long as the batch.

        Args:
            predictions: the model's answers.
            references: the accepted answers of each item.
            ids: the items' ids. An id met again is the same item met again.
            groups: the breakdowns each item enters, for example `{"answer_type": "number"}`.
            choices: the texts of each item's options, for multiple choice.

        Raises:
            ValueError: the arguments differ in length.
            VlmLitError: an item cannot be judged; names it.
        """
        groups = [{}] * len(ids) if groups is None else groups
        choices = [()] * len(ids) if choices is None else choices
        _refuse_unequal_lengths(predictions=predictions, references=references, ids=ids, groups=groups, choices=choices)
        self._judge(list(starmap(Answer, zip(predictions, references, ids, choices, groups, strict=True))))

    def compute(self) -> dict[str, float]:
        """Returns the rule's values: `overall` and details, then every `group/value` by name, with its details.

        Raises:
            VlmLitError: there are no items, or one id came with two judgements.
        """
        return summarised(self.rule, self._items()).by_name()

    def per_item(self) -> dict[str, float]:
        """Returns the score of every item that has one by id, in the order of first sight.

        These are the items this rank has seen; inside `with metric.sync_context():`, which all ranks must
        enter, they are the items of all ranks.

        Raises:
            VlmLitError: one id came with two judgements.
        """
        items = list(self._items())
        return dict(summarised(self.rule, items).scores) if items else {}

    def _judge(self, answers: Sequence[Answer]) -> None:
        items = [judged_item(self.rule, answer, f"Record {answer.id!r}") for answer in answers]
        kept = [(item, item.counts) for item in items if item.counts is not None]
        keys = [[f"{group}/{value}" for group, value in item.groups] for item, _ in kept]
        codes = [stable_code(item.id) for item, _ in kept]
        members = [(code, stable_code(key)) for code, inside in zip(codes, keys, strict=True) for key in inside]
        names = {item.id for item, _ in kept}.union(chain.from_iterable(keys))
        self._append(codes, [counts for _, counts in kept], members, _packed(names))

    def _append(
        self, codes: list[int], counts: Sequence[Counts], members: list[tuple[int, int]], packed_names: bytes
    ) -> None:
        entries = {
            "codes": torch.tensor(codes, dtype=torch.int64),
            "counts": torch.tensor(counts, dtype=torch.float64).reshape(-1, self.rule.columns),
            "memberships": torch.tensor(members, dtype=torch.int64).reshape(-1, 2),
            "names": torch.tensor(list(packed_names), dtype=torch.uint8),
        }
        for state, entry in entries.items():
            cast("list[Tensor]", getattr(self, state)).append(entry.to(self.device))

    def _items(self) -> Iterator[JudgedItem]:
        """Every item met, repeats among them: they are dropped after the ranks have met."""
        names = self._names_by_code()
        groups: dict[int, list[tuple[str, str]]] = {}
        for item, group in dict.fromkeys(map(tuple, _joined(self.memberships).tolist())):
            name, _, value = names[group].partition("/")
            groups.setdefault(item, []).append((name, value))
        for code, row in zip(_joined(self.codes).tolist(), _joined(self.counts).tolist(), strict=True):
            yield JudgedItem(names[code], tuple(row), tuple(groups.get(code, ())))

    def _names_by_code(self) -> dict[int, str]:
        lines = _joined(self.names).cpu().numpy().tobytes().splitlines()
        return {stable_code(name): name for line in lines for name in json.loads(line)}


def _packed(names: Iterable[str]) -> bytes:
    """Writes names as one line; JSON escapes line breaks, and anything else that UTF-8 refuses."""
    return json.dumps(sorted(names)).encode() + b"\n"


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """The whole state: torchmetrics keeps a list before the ranks meet and one tensor after."""
    return state if isinstance(state, Tensor) else torch.cat(state)


def _refuse_unequal_lengths(**arguments: Sized) -> None:
    lengths = {argument: len(given) for argument, given in arguments.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} {argument}" for argument, length in lengths.items())
        raise ValueError(f"A batch needs as many predictions as all the rest, got {found}.")
