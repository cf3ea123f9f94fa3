"""Tests of running answers: questions that join others are answered as alone, and what nobody reads is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support import family_cases as cases
from tests.support.tiny_families.catalogue import save
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.generation import StopTokens
from vlm_lit.models.packed_rows import read
from vlm_lit.models.running_answers import RunningAnswers
from vlm_lit.models.sampling import Sampler, SamplingSettings
from vlm_lit.models.shared_generation import generate_shared
from vlm_lit.schema import PromptBatch

LONGEST = 12


@pytest.fixture(params=["llava", "qwen2_vl"])  # a head of keys for each of queries, and one for two; both positions
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    made: Path = save(kind, tmp_path)
    return made


@pytest.fixture
def model(folder: Path) -> nn.Module:
    made: nn.Module | None = cases.module(folder).eval().model
    assert made is not None
    return made


@pytest.fixture
def batches(folder: Path) -> list[PromptBatch]:
    """Three batches of prompts in rows of several questions and of one, of different lengths."""
    encoder = cases.encoder(folder)
    talks = [
        [*cases.about_one_picture(1, 0, questions=3), cases.conversation(1, 1, 9)],
        [cases.conversation(1, 1, 2), *cases.about_one_picture(1, 4, questions=2)],
        cases.about_one_picture(1, 5, questions=4),
    ]
    return [batch for some in talks for batch in cases.prompts(encoder, some, packing=True)]


def alone(model: nn.Module, kind: str, batch: PromptBatch, stop: StopTokens, seed: int | None) -> list[list[int]]:
    assert batch.segments is not None
    return generate_shared(
        model, batch.inputs, batch.segments, family=FAMILIES[kind], max_new_tokens=LONGEST, stop=stop,
        sampler=drawn(batch, seed),
    )  # fmt: skip


def drawn(batch: PromptBatch, seed: int | None) -> Sampler | None:
    return None if seed is None else Sampler(SamplingSettings(seed=seed), [c.id for c in batch.conversations])


def often_ending(answers: Sequence[Sequence[int]]) -> StopTokens:
    """Ends of turn that answers come to sooner or later."""
    tokens = sorted({token for said in answers for token in said[2:]})
    return StopTokens(end_of_turn=tuple(tokens[::4]), pad=2)


@pytest.mark.parametrize("seed", [None, 3])
def test_questions_that_join_are_answered_as_alone(
    model: nn.Module, kind: str, batches: list[PromptBatch], seed: int | None
) -> None:
    endless = [row for b in batches for row in alone(model, kind, b, StopTokens(end_of_turn=(), pad=2), seed)]
    stop = often_ending(endless)
    expected = [row for batch in batches for row in alone(model, kind, batch, stop, seed)]
    assert len({len(said) for said in expected}) >= 3, "some end before others"
    running = RunningAnswers(model, FAMILIES[kind], max_new_tokens=LONGEST, stop=stop)
    found: dict[int, list[int]] = {}
    going_on = []
    for batch in batches:
        assert batch.segments is not None
        running.add(batch.inputs, batch.segments, drawn(batch, seed))
        found |= dict(running.run(until=2))
        going_on.append(running.count - len(found))
    assert max(going_on[:2]) > 0, "some go on beside the next"
    found |= dict(running.run())
    assert [found[number] for number in range(len(expected))] == expected


@torch.no_grad()
def test_what_only_answered_questions_said_is_forgotten(
    model: nn.Module, kind: str, batches: list[PromptBatch]
) -> None:
    first, second, _ = batches
    readers = [read(model.get_base_model(), b.inputs, b.segments, FAMILIES[kind]) for b in (first, second)]  # type: ignore[operator, arg-type]
    reader, (before, length) = readers[0], readers[0].owners.shape
    said = torch.full((len(reader.rows), 40), 7)
    reader.append(range(len(reader.rows)), said, torch.arange(40), torch.ones(40, 40, dtype=torch.bool).tril())
    alive = [next(q for q, row in enumerate(reader.rows) if reader.rows.count(row) == 1)]
    needed = int((reader.owners[reader.rows[alive[0]]] >= 0).sum())
    joined = reader.joined(alive, readers[1])
    rows, keys = joined.owners.shape
    assert rows == 1 + len(readers[1].kept) < before + len(readers[1].kept)
    assert keys == max(needed, readers[1].owners.shape[1]) < length + 3 * 40
    assert joined.cache.get_seq_length() == keys
    assert len(joined.rows) == 1 + len(readers[1].rows)
