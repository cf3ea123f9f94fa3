"""Metrics over a data set: judged items added up to the same value, whatever the batches and ranks.

The state is one entry per item, not a running sum: a distributed sampler repeats items to even the ranks, and only
an id tells a repeat. Sums are `math.fsum`, which rounds once, so that the order of the items cannot show.

Strings do not travel between ranks, integers do. So ids and group names travel as 63-bit codes, and the strings
themselves as a stream of bytes from which every rank rebuilds the table of names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Sized
from hashlib import blake2b
from itertools import chain, starmap
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.rules import Answer, Counts, Rule, counted, judged


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
        counts = self._counts_by_code()
        if not counts:
            raise VlmLitError(f"{self.name} has no items to average. Check that the evaluated split is not empty.")
        members: dict[int, list[Counts]] = {}
        for item, group in {(item, group) for item, group in _joined(self.memberships).tolist()}:
            members.setdefault(group, []).append(counts[item])
        names = self._names_by_code()
        groups = sorted((names[group], judged(self.rule, inside)) for group, inside in members.items())
        values = judged(self.rule, counts.values())
        values |= self.rule.across((key.partition("/")[0], inside) for key, inside in groups)
        return values | {_key(group, name): value for group, inside in groups for name, value in inside.items()}

    def per_item(self) -> dict[str, float]:
        """Returns the score of every item that has one by id, in the order of first sight.

        These are the items this rank has seen; inside `with metric.sync_context():`, which all ranks must
        enter, they are the items of all ranks.

        Raises:
            VlmLitError: one id came with two judgements.
        """
        names = self._names_by_code()
        scores = {names[code]: self.rule.score_of(counts) for code, counts in self._counts_by_code().items()}
        return {id_: score for id_, score in scores.items() if score is not None}

    def _judge(self, answers: Sequence[Answer]) -> None:
        counted = [(answer, counts) for answer in answers if (counts := self._counted(answer)) is not None]
        keys = [[f"{group}/{value}" for group, value in self.rule.groups(answer).items()] for answer, _ in counted]
        codes = [stable_code(answer.id) for answer, _ in counted]
        members = [(code, stable_code(key)) for code, item in zip(codes, keys, strict=True) for key in item]
        names = {answer.id for answer, _ in counted}.union(chain.from_iterable(keys))
        self._append(codes, [counts for _, counts in counted], members, _packed(names))

    def _counted(self, answer: Answer) -> Counts | None:
        try:
            return counted(self.rule, answer)
        except ConfigError:
            raise
        except VlmLitError as error:
            raise VlmLitError(f"Record {answer.id!r}: {error}") from error

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

    def _counts_by_code(self) -> dict[int, Counts]:
        """Each item once: repeats are dropped here, after the ranks have met."""
        kept: dict[int, Counts] = {}
        for code, row in zip(_joined(self.codes).tolist(), _joined(self.counts).tolist(), strict=True):
            counts = tuple(row)
            first = kept.setdefault(code, counts)
            if counts != first:
                raise VlmLitError(
                    f"{self.name}: the id {self._names_by_code()[code]!r} came twice, judged {_shown(first)} and then "
                    f"{_shown(counts)}. Give every record an id of its own; if they are one record, its answer was "
                    "not reproducible."
                )
        return kept

    def _names_by_code(self) -> dict[int, str]:
        lines = _joined(self.names).cpu().numpy().tobytes().splitlines()
        return {stable_code(name): name for line in lines for name in json.loads(line)}


def _packed(names: Iterable[str]) -> bytes:
    """Writes names as one line; JSON escapes line breaks, and anything else that UTF-8 refuses."""
    return json.dumps(sorted(names)).encode() + b"\n"


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """The whole state: torchmetrics keeps a list before the ranks meet and one tensor after."""
    return state if isinstance(state, Tensor) else torch.cat(state)


def _key(group: str, value: str) -> str:
    return group if value == "overall" else f"{group}/{value}"


def _shown(counts: Counts) -> str:
    return ", ".join(map(str, counts))


def _refuse_unequal_lengths(**arguments: Sized) -> None:
    lengths = {argument: len(given) for argument, given in arguments.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} {argument}" for argument, length in lengths.items())
        raise ValueError(f"A batch needs as many predictions as all the rest, got {found}.")
