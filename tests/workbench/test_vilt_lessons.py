"""Tests of the ViLT base's training rows: they are what ViLT itself reads."""

from random import Random

import numpy as np
import torch
from vilt_exam import vilt_exam
from vilt_lessons import (
    IMAGE_POSITIONS,
    ViltRows,
    answer_logits,
    embed_picture,
    embed_text,
    pixel_values,
    seen_by_all,
    seen_by_branches,
    single_questions,
    states,
)
from workbench_lessons import small_picture

from vlm_lit.workbench.drawing import draw
from vlm_lit.workbench.vilt_model import VILT_ANSWERS, build_vilt, build_vilt_processor, build_vilt_tokenizer
from vlm_lit.workbench.world import KINDS, scene

TOKENIZER = build_vilt_tokenizer(1)
PROCESSOR = build_vilt_processor(TOKENIZER)
ROWS = ViltRows(TOKENIZER, questions=16, tokens=152)
SCENES = [scene(5, index) for index in range(4)]
LAYERS = 8


def test_a_row_is_full_and_asks_what_the_vocabulary_can_answer() -> None:
    row = ROWS.row(SCENES[0], Random(1))
    assert {len(row.ids), len(row.segments), len(row.positions), len(row.meanings)} == {152}
    assert len(row.starts) == len(row.answers) == 16
    asked = [start for start in row.starts if start >= 0]
    assert len(asked) > 10
    assert [row.ids[start] for start in asked] == [TOKENIZER.cls_token_id] * len(asked)
    assert [row.segments[start] for start in asked] == list(range(1, len(asked) + 1))
    assert all(-1 <= answer < len(VILT_ANSWERS) for answer in row.answers)


def test_words_know_what_they_refer_to() -> None:
    kinds = {TOKENIZER.convert_tokens_to_ids(kind): kind for kind in KINDS}
    checked = 0
    for shown in SCENES:
        row = ROWS.row(shown, Random(1))
        for token, known in zip(row.ids, row.meanings, strict=True):
            if token in kinds:
                assert known[0] == len(shown.of_kind(kinds[token]))
                checked += 1
    assert checked > 20


def test_pictures_are_made_as_the_processor_makes_them() -> None:
    theirs = PROCESSOR(images=draw(SCENES[0]), text="what?", return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixel_values(np.array(small_picture(SCENES[0], 0))[None]), theirs, atol=1e-6, rtol=0)


def test_single_questions_are_read_as_vilt_reads_them() -> None:
    origins, singles = single_questions([ROWS.row(shown, Random(1)) for shown in SCENES], most=3)
    assert origins == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    ids, segments, positions, *_ = map(torch.tensor, zip(*singles, strict=True))
    pixels = pixel_values(np.stack([np.asarray(small_picture(shown, 0)) for shown in SCENES]))
    model = build_vilt(len(TOKENIZER), seed=0).eval()
    with torch.inference_mode():
        embedded = torch.cat([embed_picture(model, pixels)[origins], embed_text(model, ids, positions)], dim=1)
        ours = answer_logits(model, states(model, embedded, seen_by_all(segments), LAYERS)[-1][:, IMAGE_POSITIONS])
        theirs = model(
            input_ids=ids,
            attention_mask=(segments > 0).long(),
            pixel_values=pixels[origins],
            pixel_mask=torch.ones(len(origins), 112, 112, dtype=torch.long),
        ).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_branch_sees_the_picture_and_itself_alone() -> None:
    seen = seen_by_branches(torch.tensor([[1, 1, 2, 0]]))[0]
    words = seen[IMAGE_POSITIONS:, IMAGE_POSITIONS:].int().tolist()
    assert words == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert seen[:, :IMAGE_POSITIONS].all()
    assert not seen[:IMAGE_POSITIONS, IMAGE_POSITIONS:].any()


def test_the_exam_counts_right_answers_and_leaves_the_random_state_alone() -> None:
    model = build_vilt(len(TOKENIZER), seed=0).eval()
    torch.nn.init.zeros_(model.classifier[-1].weight)
    with torch.no_grad():
        model.classifier[-1].bias[VILT_ANSWERS.index("yes")] = 1.0
    before = torch.get_rng_state()
    scores = vilt_exam(model, PROCESSOR, images=8)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0.2 < scores["yes/no"] < 0.8
    assert scores["number"] == scores["other"] == 0.0
