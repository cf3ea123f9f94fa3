"""Tests of GQA accuracy: exact, with LLaVA's step on request, by binary and open questions."""

import pytest

from vlm_lit.errors import ConfigError, VlmLitError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.gqa import GQAAccuracy, gqa_score


def test_every_character_counts() -> None:
    assert gqa_score("red", ["red"]) == 1.0
    for other in ("Red", "red.", " red"):
        assert gqa_score(other, ["red"]) == 0.0


def test_llavas_step() -> None:
    assert gqa_score("Red..", ["red"], processor="llava") == 1.0
    assert gqa_score("red. ", ["red"], processor="llava") == 0.0
    assert gqa_score("red", ["Red"], processor="llava") == 0.0  # references stay


def test_binary_and_open_follow_from_the_structural_type() -> None:
    metric = ItemMetric(GQAAccuracy())
    types = ["query", "verify", "choose", None]
    groups = [{"structural": name} if name else {} for name in types]
    metric.update(["red", "yes", "no", "red"], [["red"], ["yes"], ["yes"], ["blue"]], list("abcd"), groups)
    assert metric.compute() == {
        "overall": 0.5,
        "form/binary": 0.5,
        "form/open": 1.0,
        "structural/choose": 0.0,
        "structural/query": 1.0,
        "structural/verify": 1.0,
    }


def test_options() -> None:
    assert GQAAccuracy(processor="llava").name == "gqa[processor=llava]"
    with pytest.raises(ConfigError, match="must be one of none, llava"):
        gqa_score("red", ["red"], processor="lower")  # type: ignore[arg-type]
    with pytest.raises(VlmLitError, match="at least one reference"):
        gqa_score("red", [])
