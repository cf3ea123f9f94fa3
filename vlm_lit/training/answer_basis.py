"""What an evaluation's scores rest on, for `results.json` and in words: answers cut short, references, near misses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from vlm_lit.metrics.basis import NearMisses, near_misses, reference_counts
from vlm_lit.schema import Prediction
from vlm_lit.training.run_result import RunResult


def basis_of(answered: Sequence[Prediction], *, generated: bool, zero_is_a_miss: bool = True) -> dict[str, Any]:
    """The fields of a `RunResult` that say it; those are left out that answers like these have nothing for.

    Args:
        answered: all answers of the evaluation, judged where they have references.
        generated: whether the model said them by itself, and did not choose from a list.
        zero_is_a_miss: whether 0 is the worst score of the leading metric, not the best.
    """
    found: dict[str, Any] = {}
    if answered and generated:
        cut = sum(p.unfinished for p in answered)
        found |= {"unfinished": cut, "unfinished_share": cut / len(answered)}
    references = reference_counts(p.references for p in answered)
    if references is not None:
        found["references"] = asdict(references)
    if references is not None and zero_is_a_miss:
        found["misses"] = asdict(near_misses((p.prediction, p.references, p.score) for p in answered))
    return found


def in_words(result: RunResult, max_new_tokens: int) -> Iterator[str]:
    """What its reader has to know of it, a line each; no line where there is nothing to say."""
    if result.answer_schema is not None:
        yield (
            f"Answers were held to the JSON Schema in {result.answer_schema['file']}: that they keep it is no merit of "
            "the model."
        )
    if result.unfinished:
        yield (
            f"{result.unfinished:,} of {result.n:,} answers ({result.unfinished_share or 0:.1%}) are unfinished: they "
            f"were cut at max_new_tokens ({max_new_tokens}). If that is too few, raise "
            "model.init_args.max_new_tokens."
        )
    if result.misses is not None:
        leading = next((name for name in result.metrics if "/" not in name), "the leading metric")
        line = NearMisses(**result.misses).as_text(leading)
        yield from [line] if line else []
