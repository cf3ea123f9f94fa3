"""How do scores of single items become the accuracy of a data set, whatever the batches and ranks?

The state is one entry per item, not a running sum: a distributed sampler repeats items to even the ranks, and only
an id tells a repeat. Sums are `math.fsum`, which rounds once, so that the order of the items cannot show.

Strings do not travel between ranks, integers do. So ids and group names travel as 63-bit codes, and the strings
themselves as a stream of bytes from which every rank rebuilds the table of names.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric

from vlm_lit.schema import VlmLitError


def stable_code(name: str) -> int:
    """Returns a 63-bit code of `name`, the same in every process (Python's `hash` is not).

    Among a million names, two share a code with probability 5e-8.
    """
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # 63 bits fit a signed int64


def named_with_options(name: str, options: Mapping[str, bool]) -> str:
    """Returns `name`, or `name[option,...]` with the options that are set, so that no number loses its definition."""
    chosen = [option for option, is_set in options.items() if is_set]
    return f"{name}[{','.join(chosen)}]" if chosen else name


class PerItemAccuracy(Metric):
    """The mean score of the items, overall and per group; a subclass says how one item is scored.

    Its state has n items and m (item, group) pairs: `codes` int64 [n], `scores` float64 [n], `memberships` int64
    [m, 2], and `names` uint8: the strings behind the codes as JSON lists, one a line.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    codes: list[Tensor] | Tensor
    scores: list[Tensor] | Tensor
    memberships: list[Tensor] | Tensor
    names: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        for state in ("codes", "scores", "memberships", "names"):
            self.add_state(state, default=[], dist_reduce_fx="cat")
        self.reset()

    @property
    @abstractmethod
    def name(self) -> str:
        """What reports call this metric, every option that is not the default included."""

    @abstractmethod
    def score(self, prediction: str, references: Sequence[str]) -> float:
        """Returns the score of one item, a fraction in [0, 1]."""

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
    ) -> None:
        """Scores a batch of items. The four arguments are as long as the batch.

        Args:
            predictions: the model's answers.
            references: the accepted answers of each item.
            ids: the items' ids. An id met again is the same item met again.
            groups: the breakdowns each item enters, for example `{"answer_type": "number"}`.

        Raises:
            ValueError: the arguments differ in length.
        """
        groups = [{}] * len(ids) if groups is None else groups
        _refuse_unequal_lengths(predictions, references, ids, groups)
        scores = [
            self.score(prediction, accepted) for prediction, accepted in zip(predictions, references, strict=True)
        ]
        keys = [[f"{group}/{value}" for group, value in item.items()] for item in groups]
        pairs = [(stable_code(i), stable_code(key)) for i, item in zip(ids, keys, strict=True) for key in item]
        self._append([stable_code(i) for i in ids], scores, pairs, _packed({*ids, *chain.from_iterable(keys)}))

    def compute(self) -> dict[str, float]:
        """Returns the mean scores as fractions: `overall`, then every `group/value` by name.

        Raises:
            VlmLitError: there are no items, or one id came with two scores.
        """
        scores = self._scores_by_code()
        if not scores:
            raise VlmLitError(f"{self.name} has no items to average. Check that the evaluated split is not empty.")
        members: dict[int, list[float]] = {}
        for item, group in {(item, group) for item, group in _joined(self.memberships).tolist()}:
            members.setdefault(group, []).append(scores[item])
        names = self._names_by_code()
        by_name = sorted((names[group], _mean(group_scores)) for group, group_scores in members.items())
        return {"overall": _mean(scores.values()), **dict(by_name)}

    def per_item(self) -> dict[str, float]:
        """Returns the score of every item by id, in the order of first sight.

        These are the items this rank has seen; inside `with metric.sync_context():`, which all ranks must
        enter, they are the items of all ranks.

        Raises:
            VlmLitError: one id came with two scores.
        """
        names = self._names_by_code()
        return {names[code]: score for code, score in self._scores_by_code().items()}

    def _append(self, codes: list[int], scores: list[float], pairs: list[tuple[int, int]], packed_names: bytes) -> None:
        entries = {
            "codes": torch.tensor(codes, dtype=torch.int64),
            "scores": torch.tensor(scores, dtype=torch.float64),
            "memberships": torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
            "names": torch.tensor(list(packed_names), dtype=torch.uint8),
        }
        for state, entry in entries.items():
            cast("list[Tensor]", getattr(self, state)).append(entry.to(self.device))

    def _scores_by_code(self) -> dict[int, float]:
        """One score per item: repeats are dropped here, after the ranks have met."""
        scores: dict[int, float] = {}
        for code, score in zip(_joined(self.codes).tolist(), _joined(self.scores).tolist(), strict=True):
            first = scores.setdefault(code, score)
            if score != first:
                raise VlmLitError(
                    f"{self.name}: the id {self._names_by_code()[code]!r} came twice, scored {first} and then {score}. "
                    "Give every record an id of its own; if they are one record, its answer was not reproducible."
                )
        return scores

    def _names_by_code(self) -> dict[int, str]:
        lines = _joined(self.names).cpu().numpy().tobytes().splitlines()
        return {stable_code(name): name for line in lines for name in json.loads(line)}


def _packed(names: Iterable[str]) -> bytes:
    """Writes names as one line; JSON escapes line breaks, and anything else that UTF-8 refuses."""
    return json.dumps(sorted(names)).encode() + b"\n"


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """The whole state: torchmetrics keeps a list before the ranks meet and one tensor after."""
    return state if isinstance(state, Tensor) else torch.cat(state)


def _mean(scores: Iterable[float]) -> float:
    scores = list(scores)
    return math.fsum(scores) / len(scores)


def _refuse_unequal_lengths(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    ids: Sequence[str],
    groups: Sequence[Mapping[str, str]],
) -> None:
    lengths = {"predictions": len(predictions), "references": len(references), "ids": len(ids), "groups": len(groups)}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{length} {argument}" for argument, length in lengths.items())
        raise ValueError(f"A batch needs as many predictions as references, ids and groups, got {found}.")
