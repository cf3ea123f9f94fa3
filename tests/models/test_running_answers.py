"""Tests of running answers: questions that join others are answered as alone, and what nobody reads is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support import family_cases as cases
from tests.support.running_cases import alone, joined
from tests.support.tiny_families.catalogue import save
from vlm_lit.models.families import FAMILIES
from vlm_lit.models.generation import StopTokens, without_adapter_shell
from vlm_lit.models.packed_rows import PrefixReader, read
from vlm_lit.schema import PromptBatch


@pytest.fixture(params=["llava", "qwen2_vl"])  # a head of keys for each of queries, and one for two; both positions
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(kind: str, tmp_path: Path) -> Path:
    return save(kind, tmp_path)


@pytest.fixture
def model(folder: Path) -> nn.Module:
    return cases.adapted(folder)


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


def often_ending(answers: Sequence[Sequence[int]]) -> StopTokens:
    """Ends of turn that answers come to sooner or later."""
    tokens = sorted({token for said in answers for token in said[2:]})
    return StopTokens(end_of_turn=tuple(tokens[::4]), pad=2)


@pytest.mark.parametrize("seed", [None, 3])
def test_questions_that_join_are_answered_as_alone(
    model: nn.Module, kind: str, batches: list[PromptBatch], seed: int | None
) -> None:
    family = FAMILIES[kind]
    stop = often_ending(alone(model, family, batches, StopTokens(end_of_turn=(), pad=2), seed))
    expected = alone(model, family, batches, stop, seed)
    assert len({len(said) for said in expected}) >= 3, "some end before others"
    found, going_on = joined(model, family, batches, stop, seed, until=2)
    assert max(going_on) > 0, "some go on beside the next"
    assert found == expected


@torch.no_grad()
def test_rows_that_joined_read_what_they_read_apart_and_keep_no_more(
    model: nn.Module, kind: str, batches: list[PromptBatch]
) -> None:
    (one, other), (lone, beside) = (_readers(model, kind, batches[:2]) for _ in range(2))
    length, several = one.owners.shape[1], range(len(one.rows))
    for reader in (one, lone):
        said = torch.arange(40 * len(several)).view(-1, 40) + 40
        reader.append(several, said, torch.arange(40), torch.ones(40, 40, dtype=torch.bool).tril())
    alive = [several[0], several[-1]]
    assert one.rows[alive[0]] != one.rows[alive[1]]
    needed = [int(((row == 0) | (row == one.segments[q])).sum()) for q in alive for row in [one.owners[one.rows[q]]]]
    assert needed[0] != needed[1], "one of the rows is filled up"
    joined, itself = one.joined(alive, other), torch.ones(1, 1, dtype=torch.bool)
    assert joined.owners.shape == (4, max(*needed, other.owners.shape[1]))
    assert joined.cache.get_seq_length() == joined.owners.shape[1] < length + 40 * len(several)
    tokens = torch.arange(len(joined.rows))[:, None] + 50
    depths = torch.tensor([[40]] * 2 + [[0]] * len(other.rows))
    found = joined.append(range(len(joined.rows)), tokens, depths, itself)
    expected = [
        lone.append(alive, tokens[:2], torch.tensor([40]), itself),
        beside.append(range(len(beside.rows)), tokens[2:], torch.tensor([0]), itself),
    ]
    # float32, the keys summed over in another order.
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-5, atol=1e-5)


def _readers(model: nn.Module, kind: str, batches: Sequence[PromptBatch]) -> list[PrefixReader]:
    base, made = without_adapter_shell(model), []
    for batch in batches:
        assert batch.segments is not None
        made.append(read(base, batch.inputs, batch.segments, FAMILIES[kind]))
    return made
