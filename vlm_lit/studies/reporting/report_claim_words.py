"""Sentences that answer a study's claims: the verdict, its interval, and what the interval is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vlm_lit.studies.page_parts.wording import percent, points
from vlm_lit.studies.reporting.report_claims import ClaimAnswer, Verdict

_MARKS: Final[Mapping[Verdict, str]] = {
    "supported": "Supported",
    "contradicted": "Contradicted",
    "equivalent": "Equivalent",
    "different": "Different",
    "undecided": "Undecided",
    "not tested": "Not tested",
}


def claim_sentence(answer: ClaimAnswer) -> str:
    """`Supported: rank=16 minus rank=8 is +2.1 points (95 % interval +0.8 to +3.4), all of it above 0. ...`."""
    found, interval = answer.difference, answer.interval
    sides = f"{levels_text(answer.claim.better)} minus {levels_text(answer.claim.than)}"
    if found is None:
        return f"{_MARKS[answer.verdict]}: {sides} is not known, no seed is finished on both sides."
    if interval is None:
        return f"{_MARKS[answer.verdict]}: {sides} is {points(found.mean)} points, all of one image, hence no interval."
    low, high = interval
    said = f"{sides} is {points(found.mean)} points (95 % interval {points(low)} to {points(high)})"
    return f"{_MARKS[answer.verdict]}: {said}, {_reason(answer)}. {basis(answer)}"


def _reason(answer: ClaimAnswer) -> str:
    claim, verdict = answer.claim, answer.verdict
    margin = f"\N{PLUS-MINUS SIGN}{percent(claim.margin)} points"
    beyond, short = ("below", "above") if answer.less_is_better else ("above", "below")
    bound = f"{points(-claim.margin if answer.less_is_better else claim.margin)} points" if claim.margin else "0"
    possible = percent(answer.still_possible or 0.0)
    return {
        "supported": f"all of it {beyond} {bound}",
        "contradicted": f"all of it {short} {bound}",
        "equivalent": f"all of it within {margin}",
        "different": f"all of it outside {margin}",
        "undecided": f"which reaches across {bound}"
        if claim.kind == "greater"
        else f"not within {margin}: a difference of up to {possible} points is still possible",
        "not tested": "not tested",
    }[verdict]


def basis(answer: ClaimAnswer) -> str:
    """What the figures are averaged over, and what had to be left out."""
    pairs = f"{len(answer.pairs)} pairs of settings" if len(answer.pairs) > 1 else "one pair of settings"
    seeds = f"{len(answer.seeds)} seeds" if len(answer.seeds) > 1 else "one seed, so without the noise of training"
    n = len(answer.left_out)
    missing = f"; {n} more {'pairs have' if n > 1 else 'pair has'} no finished seed in common" if n else ""
    return f"Over {pairs} and {seeds}{missing}."


def levels_text(levels: Mapping[str, str]) -> str:
    """`rank=16, precision=nf4`."""
    return ", ".join(f"{factor}={level}" for factor, level in levels.items())
