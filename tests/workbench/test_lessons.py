"""Tests of the base's training rows: they are what a user's prompt will be."""

from random import Random

import numpy as np
import pytest
import torch
from workbench_lessons import PATCH_FACTS, ROW_TOKENS, RowMaker, normalized, patch_facts, small_picture, visible

from vlm_lit.workbench.base_model import IMAGE_TOKENS, build_model, build_processor, build_tokenizer
from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.world import scene

TOKENIZER = build_tokenizer(1)
ROWS = RowMaker(TOKENIZER)
SHOWN = next(scene(5, index) for index in range(50) if scene(5, index).layout == "bench")


@pytest.mark.parametrize("shared", [True, False])
def test_a_row_is_full_and_learns_answers_with_their_end(shared: bool) -> None:
    row = ROWS.row(SHOWN, Random(1), shared=shared)
    ids, labels = row.ids, row.labels
    assert {len(part) for part in row} == {ROW_TOKENS}
    assert all((weight > 0) is (label >= 0) for weight, label in zip(row.weights, labels, strict=True))
    assert all(label in (-100, token) for label, token in zip(labels, ids, strict=True))
    learned = TOKENIZER.decode([label for label in labels if label >= 0])
    assert learned.count("</s>") == TOKENIZER.decode(ids).count("ASSISTANT:") > 5
    assert "ASSISTANT" not in learned
    assert "?" not in learned


def test_a_dialogue_is_written_as_the_processor_writes_it() -> None:
    ids, _, _, segments, _, _ = ROWS.row(SHOWN, Random(1), shared=False)
    text = TOKENIZER.decode([token for token, segment in zip(ids, segments, strict=True) if segment == 0])
    text = text.replace("<image>" * IMAGE_TOKENS, "<image>").removeprefix("<s>")
    inputs = build_processor(TOKENIZER)(images=draw(SHOWN), text=text)
    assert np.asarray(inputs["input_ids"]).flatten().tolist() == [
        token for token, segment in zip(ids, segments, strict=True) if segment == 0
    ]


def test_pictures_are_made_as_the_processor_makes_them() -> None:
    theirs = build_processor(TOKENIZER)(images=draw(SHOWN), text="<image>", return_tensors="pt")["pixel_values"]
    ours = normalized(np.array(small_picture(SHOWN, 0))[None])
    # One step of 8-bit rounding is 1/255 divided by the deviation of 0.26.
    torch.testing.assert_close(ours, theirs, atol=0.016, rtol=0)


def test_a_branch_sees_the_image_and_itself_alone() -> None:
    seen = visible(torch.tensor([[0, 0, 1, 1, 2]]))[0, 0].int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]


def test_a_shared_row_answers_as_single_rows_do() -> None:
    ids, _, _, segments, positions, _ = (torch.tensor([part]) for part in ROWS.row(SHOWN, Random(1), shared=True))
    model = build_model(len(TOKENIZER), seed=0).model.language_model.eval()
    with torch.inference_mode():
        shared = model(ids, attention_mask=visible(segments), position_ids=positions).last_hidden_state[0]
        for branch in (1, 3):
            own = (segments[0] == 0) | (segments[0] == branch)
            single = model(ids[:, own]).last_hidden_state[0]
            torch.testing.assert_close(shared[own], single, atol=1e-4, rtol=1e-4)


def test_patch_facts_name_what_lies_there() -> None:
    facts = patch_facts(SHOWN).reshape(4, 2, 4, 2, len(PATCH_FACTS))
    for item in SHOWN.items:
        kinds = facts[item.row - 1, :, item.column - 1, :, 0]
        assert kinds.min() == kinds.max() > 0
    assert (facts[..., 0] > 0).sum() == 4 * len(SHOWN.items)
