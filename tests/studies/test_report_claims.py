"""Tests of a study's claims: each verdict, and which runs it is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import numpy as np
import pytest

from vlm_lit.studies.estimates.bootstrap import Floats
from vlm_lit.studies.estimates.seed_statistics import SeededMean, seeded_mean
from vlm_lit.studies.reporting.report_claim_words import claim_sentence
from vlm_lit.studies.reporting.report_claims import ClaimAnswer, answer, judged
from vlm_lit.studies.reporting.report_scores import RunKey, StudyScores
from vlm_lit.studies.running.study_file import StudyClaim

CLUSTERS = tuple(i // 2 for i in range(12))
SETTINGS = {f"rank={r},bits={b}": {"rank": r, "bits": b} for r, b in product(("4", "16"), ("nf4", "bf16"))}


def claim(kind: Literal["equal", "greater"] = "greater", margin: float = 0.0, **changes: Any) -> StudyClaim:
    better, than = {"rank": "16"}, {"rank": "4"}
    return replace(StudyClaim(says="so", source="S", better=better, than=than, kind=kind, margin=margin), **changes)


def between(low: float, high: float) -> SeededMean:
    scores = np.array([[0.0], [1.0], [0.0], [1.0]])
    return replace(seeded_mean(scores, [1, 2, 3, 4]), mean=(low + high) / 2, low=low, high=high)


@pytest.mark.parametrize(
    ("kind", "margin", "interval", "verdict"),
    [
        ("greater", 0.0, (0.01, 0.05), "supported"),
        ("greater", 0.0, (-0.05, -0.01), "contradicted"),
        ("greater", 0.0, (-0.01, 0.05), "undecided"),
        ("greater", 0.0, (0.0, 0.05), "undecided"),
        ("greater", 0.02, (0.01, 0.05), "undecided"),
        ("greater", 0.02, (0.03, 0.05), "supported"),
        ("greater", 0.02, (0.0, 0.01), "contradicted"),
        ("equal", 0.02, (-0.01, 0.015), "equivalent"),
        ("equal", 0.02, (0.005, 0.015), "equivalent"),
        ("equal", 0.02, (-0.02, 0.02), "equivalent"),
        ("equal", 0.02, (0.021, 0.05), "different"),
        ("equal", 0.02, (-0.05, -0.03), "different"),
        ("equal", 0.02, (-0.01, 0.05), "undecided"),
        ("equal", 0.02, (-0.03, 0.01), "undecided"),
        ("equal", 0.02, (-0.03, 0.03), "undecided"),
        ("equal", 0.02, (0.01, 0.05), "undecided"),
    ],
)
def test_the_interval_decides(
    kind: Literal["equal", "greater"], margin: float, interval: tuple[float, float], verdict: str
) -> None:
    assert judged(claim(kind, margin), between(*interval)) == verdict


@pytest.mark.parametrize(
    ("kind", "margin", "interval", "verdict", "reason"),
    [
        ("greater", 0.0, (-0.05, -0.01), "supported", "all of it below 0."),
        ("greater", 0.0, (0.01, 0.05), "contradicted", "all of it above 0."),
        ("greater", 0.02, (-0.05, -0.03), "supported", "all of it below \N{MINUS SIGN}2.0 points."),
        ("greater", 0.02, (-0.05, -0.01), "undecided", "which reaches across \N{MINUS SIGN}2.0 points."),
        ("equal", 0.02, (-0.05, -0.03), "different", "all of it outside \N{PLUS-MINUS SIGN}2.0 points."),
    ],
)
def test_a_claim_is_of_the_lower_score_where_less_is_better(
    kind: Literal["equal", "greater"], margin: float, interval: tuple[float, float], verdict: str, reason: str
) -> None:
    asked, difference = claim(kind, margin), between(*interval)
    found = judged(asked, difference, less_is_better=True)
    assert found == verdict
    told = ClaimAnswer(
        claim=asked, verdict=found, difference=difference, seeds=(0,), pairs=(), left_out=(), less_is_better=True
    )
    assert reason in claim_sentence(told)


def test_without_an_interval_nothing_is_decided() -> None:
    assert judged(claim(), None) == "not tested"
    one_image = seeded_mean(np.array([[1.0], [1.0]]), ["cat", "cat"])
    assert judged(claim(), one_image) == "not tested"


def scores(seeds: Mapping[str, Sequence[int]], of: Mapping[str, float] | None = None) -> StudyScores:
    """Random scores; to a setting's is added what `of` says."""
    random = np.random.default_rng(0)
    table: dict[RunKey, Floats] = {
        (name, seed): random.random(12) + (of or {}).get(name, 0.0)
        for name, of_setting in seeds.items()
        for seed in of_setting
    }
    return StudyScores(clusters=CLUSTERS, of_run=table, unjudged=0, own_figures={})


def test_it_is_averaged_over_the_other_factors() -> None:
    table = scores(dict.fromkeys(SETTINGS, (0, 1)))
    found = answer(claim(), SETTINGS, table)
    assert found.pairs == (("rank=16,bits=nf4", "rank=4,bits=nf4"), ("rank=16,bits=bf16", "rank=4,bits=bf16"))
    by_hand = [
        [
            (
                table.of_run["rank=16,bits=nf4", seed][i]
                - table.of_run["rank=4,bits=nf4", seed][i]
                + table.of_run["rank=16,bits=bf16", seed][i]
                - table.of_run["rank=4,bits=bf16", seed][i]
            )
            / 2
            for seed in (0, 1)
        ]
        for i in range(12)
    ]
    expected = seeded_mean(np.array(by_hand), CLUSTERS)
    assert found.difference is not None
    assert (found.difference.mean, found.difference.se) == pytest.approx((expected.mean, expected.se))
    assert (found.seeds, found.left_out) == ((0, 1), ())


def test_two_factors_name_one_cell_of_each_side() -> None:
    asked = claim(better={"rank": "16", "bits": "bf16"}, than={"rank": "4", "bits": "nf4"})
    found = answer(asked, SETTINGS, scores(dict.fromkeys(SETTINGS, (0,))))
    assert found.pairs == (("rank=16,bits=bf16", "rank=4,bits=nf4"),)


def test_pairs_without_a_common_seed_are_left_out_and_seeds_are_those_of_all() -> None:
    seeds = {"rank=16,bits=nf4": (0, 1, 2), "rank=4,bits=nf4": (1, 2), "rank=16,bits=bf16": (0,)}
    found = answer(claim(), SETTINGS, scores(seeds))
    assert (found.pairs, found.seeds) == ((("rank=16,bits=nf4", "rank=4,bits=nf4"),), (1, 2))
    assert found.left_out == (("rank=16,bits=bf16", "rank=4,bits=bf16"),)
    assert "1 more pair has no finished seed in common" in claim_sentence(found)


def test_nothing_finished_is_not_tested() -> None:
    found = answer(claim(), SETTINGS, scores({"rank=16,bits=nf4": (0,), "rank=4,bits=bf16": (0,)}))
    assert (found.verdict, found.difference, found.pairs, len(found.left_out)) == ("not tested", None, (), 2)
    assert claim_sentence(found) == "Not tested: rank=16 minus rank=4 is not known, no seed is finished on both sides."


def said(interval: tuple[float, float], kind: Literal["equal", "greater"], margin: float) -> str:
    asked, difference = claim(kind, margin), between(*interval)
    pairs = (("x", "y"), ("z", "w"))
    return claim_sentence(
        ClaimAnswer(
            claim=asked,
            verdict=judged(asked, difference),
            difference=difference,
            seeds=(0, 1, 2),
            pairs=pairs,
            left_out=(),
        )
    )


def test_the_sentence_has_the_interval_and_the_margin() -> None:
    start, end = "rank=16 minus rank=4 is", "Over 2 pairs of settings and 3 seeds."
    minus = "\N{MINUS SIGN}"
    assert said((0.01, 0.05), "greater", 0.0) == (
        f"Supported: {start} +3.0 points (95 % interval +1.0 to +5.0), all of it above 0. {end}"
    )
    assert said((-0.05, -0.01), "greater", 0.0) == (
        f"Contradicted: {start} {minus}3.0 points (95 % interval {minus}5.0 to {minus}1.0), all of it below 0. {end}"
    )
    assert said((0.0, 0.03), "greater", 0.02).endswith(f"which reaches across +2.0 points. {end}")
    assert said((-0.01, 0.01), "equal", 0.02).endswith(f"all of it within \N{PLUS-MINUS SIGN}2.0 points. {end}")
    assert said((0.03, 0.05), "equal", 0.02).endswith(f"all of it outside \N{PLUS-MINUS SIGN}2.0 points. {end}")
    assert said((-0.06, 0.01), "equal", 0.02) == (
        f"Undecided: {start} {minus}2.5 points (95 % interval {minus}6.0 to +1.0), not within \N{PLUS-MINUS SIGN}2.0 "
        f"points: a difference of up to 6.0 points is still possible. {end}"
    )


def test_one_seed_is_said_to_hold_no_noise_of_training() -> None:
    found = answer(claim(), SETTINGS, scores(dict.fromkeys(SETTINGS, (0,)), {"rank=16,bits=nf4": 5.0}))
    assert found.verdict == "supported"
    assert "one seed, so without the noise of training" in claim_sentence(found)
