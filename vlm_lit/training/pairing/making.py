"""Pairs made of the answers to many questions: each judged by a metric, and the best set against the worst."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vlm_lit.errors import ConfigError
from vlm_lit.metrics.catalogue import rule
from vlm_lit.metrics.rules import Answer, Rule
from vlm_lit.metrics.summary import judged_item
from vlm_lit.schema import Conversation
from vlm_lit.training.pairing.answers_file import SampledAnswer
from vlm_lit.training.pairing.choosing import JudgedAnswer, PairSettings, chosen_pairs
from vlm_lit.training.pairing.pair_records import JudgedPair
from vlm_lit.training.pairing.pair_report import PairReport


def judging_rule(name: str, options: Mapping[str, object], asked: Iterable[Conversation]) -> Rule:
    """The metric that answers to some questions are judged by; every question is looked at.

    Raises:
        ConfigError: it gives no score for a single answer.
        VlmLitError: a question cannot be judged, for example since nothing says its answer.
    """
    chosen = rule(name, options)
    if not chosen.is_score:
        raise ConfigError(f"{chosen.name} is no score, so it cannot say which of two answers is better.")
    several = False
    for one in asked:
        several = several or len(one.references) > 1
        said = one.references[0] if one.references else ""
        judged_item(chosen, _answer(one, said), f"Record {one.id!r} of {one.file}")
    if name == "vqa_accuracy" and "normalize" not in options and not several:
        return rule(name, {**options, "normalize": "always"})  # what leads an evaluation of such questions too
    return chosen


def _answer(asked: Conversation, said: str) -> Answer:
    return Answer(said, asked.references, asked.id, asked.choices, asked.groups)


def made_pairs(
    asked: Iterable[Conversation],
    answers: Iterable[SampledAnswer],
    judge: Rule,
    settings: PairSettings,
    tokenizer: Any,  # noqa: ANN401 - any tokenizer of a hub
    in_files: Callable[[Conversation], Conversation],
) -> tuple[list[JudgedPair], PairReport]:
    """The pairs of all questions, in their order, and the report of them.

    Args:
        asked: the questions; no more than one is held at a time.
        answers: those of all questions.
        judge: the metric.
        settings: which pairs are made.
        tokenizer: counts tokens.
        in_files: gives a question whose pictures are files.
    """
    of_record = defaultdict[str, list[SampledAnswer]](list)
    for answer in answers:
        of_record[answer.id].append(answer)
    made, report = list[JudgedPair](), PairReport()
    for one in asked:
        sampled = sorted(of_record[one.id], key=lambda answer: answer.sample)
        judged = _judged(one, sampled, judge, tokenizer)
        found = chosen_pairs(judged, settings, higher_is_better=judge.higher_is_better)
        report.add(judged, found)
        one = in_files(one) if found.pairs else one
        made += [JudgedPair(asked=one, pair=pair, number=number) for number, pair in enumerate(found.pairs)]
    return made, report


def _judged(
    asked: Conversation,
    sampled: Sequence[SampledAnswer],
    judge: Rule,
    tokenizer: Any,  # noqa: ANN401 - as above
) -> list[JudgedAnswer]:
    texts = list(dict.fromkeys(answer.answer for answer in sampled))
    if not texts:
        return []
    tokens = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    scores = [_score(judge, asked, text) for text in texts]
    known = dict(zip(texts, zip(tokens, scores, strict=True), strict=True))
    return [
        JudgedAnswer(sampled=answer, tokens=known[answer.answer][0], score=known[answer.answer][1])
        for answer in sampled
    ]


def _score(judge: Rule, asked: Conversation, said: str) -> float | None:
    counts = judged_item(judge, _answer(asked, said), f"Record {asked.id!r}").counts
    return None if counts is None else judge.score_of(counts)
