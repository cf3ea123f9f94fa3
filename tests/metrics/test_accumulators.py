"""Tests of metrics over a data set: the value does not depend on how the items arrived."""

import copy
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_lit.errors import VlmLitError
from vlm_lit.metrics.accumulators import ItemMetric, stable_code
from vlm_lit.metrics.catalogue import metric as metric_named
from vlm_lit.metrics.rules import Answer, Counts, Rule


@dataclass(frozen=True)
class SpokenScore(Rule):
    """An item's score is the number its prediction spells; `-` leaves it out."""

    title: ClassVar[str] = "spoken_score"

    def counts(self, answer: Answer) -> Counts | None:
        if answer.prediction == "?":
            raise VlmLitError("A question mark spells no number.")
        return None if answer.prediction == "-" else (float(answer.prediction),)


Item = tuple[str, float, Mapping[str, str]]

ITEMS = st.lists(
    st.tuples(
        st.text(max_size=8),
        st.floats(0, 1),
        st.dictionaries(st.sampled_from(["answer_type", "question_type"]), st.text(max_size=3), max_size=2),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda item: item[0],
)


def feed(metric: ItemMetric, items: Sequence[Item]) -> None:
    ids, scores, groups = [i for i, _, _ in items], [str(s) for _, s, _ in items], [g for _, _, g in items]
    metric.update(scores, [[""]] * len(items), ids, groups)


def value_of(*batches: Sequence[Item]) -> dict[str, float]:
    metric = ItemMetric(SpokenScore())
    for batch in batches:
        feed(metric, batch)
    return metric.compute()


COLOUR, NUMBER = {"question_type": "colour", "answer_type": "other"}, {"answer_type": "number"}
FOUR: list[Item] = [("a", 1.0, COLOUR), ("b", 0.0, COLOUR), ("c", 0.3, NUMBER), ("d", 0.9, {})]


def test_overall_and_groups_as_fractions() -> None:
    assert value_of(FOUR) == {
        "overall": 0.55,
        "answer_type/number": 0.3,
        "answer_type/other": 0.5,
        "question_type/colour": 0.5,
    }


def test_groups_may_be_left_out() -> None:
    metric = ItemMetric(SpokenScore())
    metric.update(["0.5", "1"], [["x"], ["x"]], ["a", "b"])
    assert metric.compute() == {"overall": 0.75}


def test_per_item_has_every_score_by_id() -> None:
    metric = ItemMetric(SpokenScore())
    feed(metric, FOUR)
    assert metric.per_item() == {"a": 1.0, "b": 0.0, "c": 0.3, "d": 0.9}


@given(items=ITEMS, data=st.data())
@settings(deadline=None, max_examples=60)
def test_order_and_batches_do_not_matter_to_the_last_bit(items: list[Item], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(items))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=4)))
    batches = [shuffled[start:end] for start, end in pairwise([0, *cuts, len(items)])]
    assert value_of(*batches) == value_of(items)


@given(items=ITEMS, data=st.data())
@settings(deadline=None, max_examples=60)
def test_repeated_items_do_not_count(items: list[Item], data: st.DataObject) -> None:
    repeats = data.draw(st.lists(st.sampled_from(items), max_size=5))
    assert value_of(items, repeats) == value_of(items)


def test_one_id_with_two_scores_is_an_error() -> None:
    with pytest.raises(VlmLitError, match=r"'a' came twice, judged 1\.0 and then 0\.5"):
        value_of(FOUR, [("a", 0.5, {})])


@pytest.mark.parametrize("id_", ["", "7", "\x00", "line\nbreak", "\u00e9\u2028", "\ud800"])
def test_any_string_is_an_id(id_: str) -> None:
    metric = ItemMetric(SpokenScore())
    feed(metric, [(id_, 1.0, {"group": id_})])
    assert metric.per_item() == {id_: 1.0}
    assert metric.compute() == {"overall": 1.0, f"group/{id_}": 1.0}


def test_nothing_to_average_is_an_error() -> None:
    metric = ItemMetric(SpokenScore())
    metric.update([], [], [])
    with pytest.raises(VlmLitError, match="spoken_score has no items"):
        metric.compute()


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 predictions, 1 references, 2 ids, 2 groups, 2 choices"):
        ItemMetric(SpokenScore()).update(["1", "1"], [["x"]], ["a", "b"])
    with pytest.raises(ValueError, match="1 groups"):
        ItemMetric(SpokenScore()).update(["1", "1"], [["x"], ["x"]], ["a", "b"], [{}])


def test_an_item_left_out_does_not_count() -> None:
    metric = ItemMetric(SpokenScore())
    metric.update(["-", "1"], [["x"], ["x"]], ["a", "b"], [{"kind": "out"}, {"kind": "in"}])
    assert metric.compute() == {"overall": 1.0, "kind/in": 1.0}
    assert metric.per_item() == {"b": 1.0}


def test_an_item_that_cannot_be_judged_is_named() -> None:
    with pytest.raises(VlmLitError, match=r"^Record 'b': A question mark spells no number\.$"):
        ItemMetric(SpokenScore()).update(["1", "?"], [["x"], ["x"]], ["a", "b"])


def test_reset_forgets_everything() -> None:
    metric = ItemMetric(SpokenScore())
    feed(metric, FOUR)
    metric.compute()
    metric.reset()
    feed(metric, [("a", 0.5, NUMBER)])
    assert metric.compute() == {"overall": 0.5, "answer_type/number": 0.5}
    assert metric.per_item() == {"a": 0.5}


def test_more_items_after_compute_are_counted() -> None:
    metric = ItemMetric(SpokenScore())
    feed(metric, FOUR[:2])
    assert metric.compute()["overall"] == 0.5
    feed(metric, FOUR[2:])
    assert metric.compute()["overall"] == 0.55


def test_instances_share_nothing() -> None:
    one, other = ItemMetric(SpokenScore()), ItemMetric(SpokenScore())
    feed(one, FOUR)
    feed(other, [("a", 0.5, {})])
    assert one.compute()["overall"] == 0.55
    assert other.compute() == {"overall": 0.5}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda metric: pickle.loads(pickle.dumps(metric))])
def test_copies_carry_on_alone(duplicate: object) -> None:
    metric = ItemMetric(SpokenScore())
    feed(metric, FOUR[:2])
    copied = duplicate(metric)  # type: ignore[operator]
    feed(copied, FOUR[2:])
    assert copied.compute()["overall"] == 0.55
    assert metric.compute()["overall"] == 0.5


def test_calling_the_metric_returns_the_batch_and_keeps_the_total() -> None:
    metric = metric_named("exact_match")
    assert metric(["red"], [["red"]], ["a"]) == {"overall": 1.0}
    assert metric(["red"], [["blue"]], ["b"]) == {"overall": 0.0}
    assert metric.compute() == {"overall": 0.5}


def test_scores_stay_float64_in_a_bfloat16_model() -> None:
    model = torch.nn.ModuleDict({"metric": ItemMetric(SpokenScore())}).to(torch.bfloat16)
    metric = model["metric"]
    assert isinstance(metric, ItemMetric)
    feed(metric, FOUR)
    assert metric.compute()["overall"] == 0.55


def test_codes_are_the_same_in_every_process_and_fit_int64() -> None:
    assert stable_code("a") == 0x207C4F1CADB32117
    codes = {stable_code(str(number)) for number in range(1_000)}
    assert len(codes) == 1_000
    assert max(codes) < 2**63
