"""Tests of the catalogue: it makes every metric by name, and says what was probably meant."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vlm_lit.errors import ConfigError
from vlm_lit.metrics.accumulators import ItemMetric
from vlm_lit.metrics.catalogue import RULES, MetricSettings, less_is_better, metric, rule

NAMES = {
    *("vqa_v2", "textvqa", "chartqa_relaxed", "anls", "pope", "gqa", "multiple_choice", "mmmu"),
    *("exact_match", "vizwiz", "aokvqa", "vilt_score", "number", "json_fields", "bleu", "rouge_l", "answer_length"),
    *("chair", "amber"),
}


def test_the_names() -> None:
    assert RULES.keys() == NAMES | {"vqa_accuracy"}


@pytest.mark.parametrize("name", RULES)
def test_every_name_makes_a_metric(name: str) -> None:
    made = metric(name)
    assert isinstance(made, ItemMetric)
    assert made.name.partition("[")[0] == {"vqa_v2": "vqa_accuracy"}.get(name, name)


def test_which_metrics_are_better_when_lower() -> None:
    assert [name for name in RULES if less_is_better(name)] == ["chair"]
    assert less_is_better("chair[objects=mine-01234567]")
    assert less_is_better("chair/question_type/describe")
    assert not less_is_better("my_own[weight=2]")
    assert not less_is_better(None)


def test_options_reach_the_metric() -> None:
    assert metric("exact_match", {"ignore_case": True}).name == "exact_match[ignore_case]"
    assert rule("vqa_v2", {"normalize": "always"}).options == {
        "normalize": "always",
        "aggregation": "leave_one_out",
        "prediction_processor": "none",
    }


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("chartqa", {}, r"There is no metric 'chartqa'. Did you mean 'chartqa_relaxed'\? Metrics are: vqa_v2, "),
        ("xyz", {}, r"There is no metric 'xyz'. Metrics are: "),
        ("pope", {"parse": "exact"}, r"pope has no option 'parse'. Did you mean 'parser'\? It has: parser."),
        ("rouge_l", {"beta": 1.2}, r"rouge_l has no option 'beta'. It has: tokenizer."),
        ("answer_length", {"beta": 1.2}, r"answer_length has no option 'beta'. It has none."),
        ("anls", {"strict_threshold": 1}, r"anls: strict_threshold is 1; it must be true or false."),
        ("bleu", {"n_gram": 2.0}, r"bleu: n_gram is 2.0; it must be a whole number."),
        ("vqa_v2", {"normalize": ["always"]}, r"must be one of official, always."),
    ],
)
def test_refusals(name: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        metric(name, options)
    with pytest.raises(ConfigError, match=says):
        MetricSettings(name, options)


def test_definitions_need_no_torch() -> None:
    code = "import sys, vlm_lit.metrics.catalogue as c; c.rule('pope'); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
