"""What a run measured on one split, as `results.json` has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run measured on one split: `results.json`. Metric values are fractions in [0, 1], a loss is in nats.

    `global_step` counts the optimizer steps behind the weights; `weights` says which they are: a `checkpoint`, an
    `adapter` with the `sha256` of its weights, or the `base` as it is. `judged_turns`, which the file has only where a
    record has several answers, is which of them were judged. `unfinished` counts the answers that were cut by
    `max_new_tokens`, `unfinished_share` is their share of `n`; None where answers are chosen from a list. `references`
    are the fewest, the mean and the most references of a judged question. `misses` counts the answers that the leading
    metric scores 0, and those of them that are a reference but for their spelling (see `metrics/basis.py`).
    `answer_schema`, which the file has only where there is one, is the JSON Schema that answers were held to while they
    were generated: its `file` and its `sha256`. `skipped_records`, which the file has only where there are some, are
    the records that were left out.
    """

    split: str
    n: int
    metrics: Mapping[str, float]
    model_id: str
    global_step: int
    versions: Mapping[str, str]
    weights: Mapping[str, str] = field(default_factory=dict)
    judged_turns: str | None = None
    unfinished: int | None = None
    unfinished_share: float | None = None
    references: Mapping[str, float] | None = None
    misses: Mapping[str, int] | None = None
    answer_schema: Mapping[str, str] | None = None
    skipped_records: int | None = None
