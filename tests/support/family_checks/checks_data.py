"""Family checks of what reaches the model of a conversation: masks, system messages, batches. See `checks.py`."""

# ruff: noqa: ARG001 - every check is asked in the same way

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import family_cases as cases
from tests.support.family_cases import TinyFamily
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import Conversation, StepBatch, Turn


def masks(tiny: TinyFamily, folder: Path) -> str | None:
    """Supervised are each turn's words and its end, for every number of images and turns, alone and batched."""
    encoder = cases.encoder(folder)
    for images, turns in cases.shapes(tiny):
        talks = [cases.conversation(images, turns, seed) for seed in range(3)]
        together = cases.encode(encoder, talks)
        for row, talk in enumerate(talks):
            alone = cases.encode(encoder, [talk])
            assert cases.runs(together, row) == cases.runs(alone, 0)
            said = cases.runs(alone, 0)
            assert all(run[-1] in encoder.end_of_turn for run in said), "no end of turn"
            words = [encoder.tokenizer.decode(run[:-1]).strip() for run in said]
            assert words == [turn.text for turn in talk.turns if turn.role == "assistant"]
    return _refused_shapes(tiny, folder)


def _refused_shapes(tiny: TinyFamily, folder: Path) -> str | None:
    """Shapes of conversation that the family does not take are refused, not encoded somehow."""
    other = [(0, 1)] if 0 not in tiny.images else []
    other += [(1, 2)] if not tiny.turns else []
    for images, turns in other:
        with pytest.raises(RecordError, match="one image or more, one question and one answer"):
            cases.encode(cases.encoder(folder), [cases.conversation(images, turns)])
    return "several turns or no image: its processor takes one question about an image" if other else None


def system(tiny: TinyFamily, folder: Path) -> str | None:
    """A system message is unsupervised and changes no answer's mask."""
    talk = cases.conversation(1, 1)
    asked = Conversation(
        id="s",
        turns=(Turn(role="system", content=("be short",)), *talk.turns),
        images=talk.images,
        file="f",
        record="0",
    )
    encoder = cases.encoder(folder)
    try:
        batch = cases.encode(encoder, [asked])
    except RecordError as error:
        return f"system message: {error.problem}"
    except ConfigError as error:
        if "does not nest" not in str(error):
            raise
        return "system message: its chat template moves it to the last user turn, so training would not see it"
    assert cases.runs(batch, 0) == cases.runs(cases.encode(encoder, [talk]), 0)
    assert "be short" in encoder.tokenizer.decode(batch.inputs["input_ids"][0])
    return None


def batches(tiny: TinyFamily, folder: Path) -> str | None:
    """Rows of any lengths and image counts cost in a step batch what they cost alone."""
    module, encoder = cases.module(folder), cases.encoder(folder)
    talks = [cases.conversation(i, t, seed) for seed, (i, t) in enumerate(cases.shapes(tiny))]
    step_batch = StepCollator(encoder, OverLengthPolicy(encoder, None, "error"), 4)(talks)
    assert isinstance(step_batch, StepBatch)
    assert sorted(step_batch.ids) == sorted(c.id for c in talks)
    module.eval()
    with torch.no_grad():
        together = sum(float(module.loss(batch)) for batch in step_batch.micro_batches)
        alone = sum(float(module.loss(cases.encode(encoder, [talk]))) for talk in talks)
    # Summed float32 losses of a few nats each; padding changes the order in which sums are taken.
    assert together == pytest.approx(alone, rel=1e-5)
    return None
