"""Tests of generation: a batch is answered as its rows are one at a time."""

import torch

from tests.support import tiny_models
from vlm_lit.models.generation import StopTokens, cut_at_end, generate


def test_left_padded_batches_answer_as_single_rows() -> None:
    model, processor = tiny_models.llava()
    texts = ["USER: <image>\nwhat? ASSISTANT:", "USER: <image>\nhow many tools are there on it? ASSISTANT:"]
    images = [[tiny_models.picture(i)] for i in range(2)]
    stop = StopTokens(end_of_turn=(1,), pad=2, forbidden=(processor.image_token_id,))

    def answer(rows: slice) -> list[list[int]]:
        made = processor(text=texts[rows], images=images[rows], padding=True, padding_side="left", return_tensors="pt")
        return generate(model, dict(made), max_new_tokens=8, stop=stop)

    together, alone = answer(slice(0, 2)), answer(slice(0, 1)) + answer(slice(1, 2))
    assert together == alone
    assert all(together)


def test_what_follows_the_end_of_turn_is_cut() -> None:
    stop = StopTokens(end_of_turn=(1, 9), pad=2)
    assert cut_at_end([5, 6, 9, 7], stop) == [5, 6]
    assert cut_at_end([5, 2, 2], stop) == [5]
    assert cut_at_end([5, 6], stop) == [5, 6]


def test_forbidden_tokens_are_never_said() -> None:
    model, processor = tiny_models.llava()
    made = processor(text=["USER: hi ASSISTANT:"], return_tensors="pt")
    free = generate(model, dict(made), max_new_tokens=6, stop=StopTokens(end_of_turn=(1,), pad=2))
    said = free[0][0]
    bound = generate(model, dict(made), max_new_tokens=6, stop=StopTokens(end_of_turn=(1,), pad=2, forbidden=(said,)))
    assert said not in bound[0]
    assert torch.is_tensor(made["input_ids"])


def test_the_checkpoints_generation_settings_change_no_answer() -> None:
    # Published checkpoints bring such settings; generation mixes them into every configuration it is given.
    model, processor = tiny_models.llava()
    made = processor(text=["USER: hi ASSISTANT:"], return_tensors="pt")
    stop = StopTokens(end_of_turn=(1,), pad=2)
    plain = generate(model, dict(made), max_new_tokens=8, stop=stop)
    said = max(plain[0], key=plain[0].count)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.begin_suppress_tokens = [plain[0][0], said]
    theirs = model.generation_config
    assert generate(model, dict(made), max_new_tokens=8, stop=stop) == plain
    assert model.generation_config is theirs
