"""Random choice of an answer's tokens, each answer with draws of its own.

The number drawn for an answer's t-th token follows from the seed and the answer's name alone: no batch, order or rank
has a part in it. It picks the first token, in the order of their ids, at which the summed probability passes it. So two
computations of one answer differ only where their rounding differs and a drawn number falls between the two sums: in
float32 about one token in a million, in bfloat16 about one in a hundred. N = answers, V = tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import LogitsProcessor

from vlm_lit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How tokens are drawn.

    Args:
        temperature: what logits are divided by; below 1 the likely tokens are drawn more often.
        top_p: draw from the fewest tokens whose probabilities sum to this at least; 1 draws from all.
        seed: what the draws follow from.

    Raises:
        ConfigError: a value is none that it can have.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"temperature is {self.temperature}; it must be above 0, where 0 would draw nothing.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must be above 0 and at most 1.")


class Sampler:
    """Draws the tokens of some answers, one of each at a time.

    Args:
        settings: how.
        names: what names each answer; equal names draw equal numbers.
    """

    def __init__(self, settings: SamplingSettings, names: Sequence[str]) -> None:
        self.settings = settings
        # Python promises to draw the same numbers from a seed of text in every version.
        self._draws = [Random(f"vlm_lit sampling {settings.seed}/{name}") for name in names]

    def __call__(self, logits_NV: Tensor, answers: Sequence[int]) -> list[int]:
        """The next token of some answers, given by their places among the names; -inf is never drawn."""
        shares_NV = self._kept((logits_NV.double() / self.settings.temperature).softmax(-1))
        sums_NV = shares_NV.cumsum(-1)
        drawn = torch.tensor([self._draws[answer].random() for answer in answers], dtype=torch.float64)
        # Of the whole sum, which top_p has made less than 1: always below the last of the sums.
        wanted_N1 = (drawn.to(sums_NV.device) * sums_NV[:, -1])[:, None]
        tokens: list[int] = torch.searchsorted(sums_NV, wanted_N1, right=True)[:, 0].tolist()
        return tokens

    def _kept(self, shares_NV: Tensor) -> Tensor:
        """The probabilities, 0 where `top_p` leaves a token out."""
        if self.settings.top_p == 1:
            return shares_NV
        ordered_NV, places_NV = shares_NV.sort(dim=-1, descending=True, stable=True)
        before_NV = ordered_NV.cumsum(-1) - ordered_NV
        left_out_NV = (before_NV >= self.settings.top_p).scatter(-1, places_NV, before_NV >= self.settings.top_p)
        return shares_NV.masked_fill(left_out_NV, 0.0)


class SampledTokens(LogitsProcessor):  # type: ignore[misc]
    """A sampler as transformers' `generate` takes it: it leaves the drawn token alone to be chosen from.

    Args:
        sampler: draws the tokens of the batch's rows.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The scores [N, V] with every token but the drawn one at -inf."""
        tokens = torch.tensor(self.sampler(scores, range(len(scores))), device=scores.device)
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens[:, None], 0.0)  # type: ignore[return-value]
