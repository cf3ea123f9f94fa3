"""Tests of `max_length: auto`: what the largest pictures need and room for words, one number a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import family_cases as cases
from tests.support import plain_runs, runs, small_config, tiny_models
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.data.rows.collate import StepCollator
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.length_limit import TEXT, auto_length
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.schema import StepBatch

Config = Callable[..., Path]


def talks(folder: Path, name: str, images: tuple[int, ...]) -> Path:
    """A file of conversations with so many pictures each."""
    tiny_models.picture(0).save(folder / "0.png")
    rows = [
        {
            "id": f"{name}{i}",
            "images": ["0.png"] * count,
            "messages": [
                {"role": "user", "content": "<image>" * count + "what colour?"},
                {"role": "assistant", "content": "red"},
            ],
        }
        for i, count in enumerate(images)
    ]
    path = folder / f"{name}.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize(("name", "each"), [("llava", 4), ("internvl", 22), ("smolvlm", 34), ("qwen2_vl", 70)])
def test_it_is_the_largest_picture_times_the_pictures_and_room(name: str, each: int) -> None:
    processor = TINY[name].build(0)[1]
    assert auto_length(processor, 1).limit == each + TEXT
    assert auto_length(processor, 3).limit == 3 * each + TEXT
    assert auto_length(processor, 0).limit == TEXT
    assert f"(a picture of up to {each} tokens, and 2,048 for the words)" in auto_length(processor, 1).words


def test_where_nothing_says_the_largest_there_is_no_limit_and_that_is_said() -> None:
    processor = TINY["smolvlm"].build(0)[1]
    images = processor.image_processor
    processor.image_processor = type(images).from_dict(images.to_dict(), do_resize=False)
    found = auto_length(processor, 1)
    assert found.limit is None
    assert "no limit" in found.words
    assert "Set data.init_args.max_length" in found.words


def test_the_data_decide_how_many_pictures_and_it_is_said_once(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, val = talks(tmp_path, "train", (1, 3, 0)), talks(tmp_path, "val", (2,))
    test = talks(tmp_path, "test", (5,))
    sources = {name: {"path": str(path)} for name, path in (("train", train), ("val", val), ("test", test))}
    data = plain_runs.data_of(config(data=sources))
    data.setup("fit")
    assert data.length_limit() == 3 * 4 + TEXT
    assert data.fitting()[1].max_length == 3 * 4 + TEXT
    data.setup("test")
    assert data.length_limit() == 3 * 4 + TEXT  # what a run is resumed by does not follow from what else is open
    assert data.length_limit("test") == 5 * 4 + TEXT
    said = [line for line in caplog.messages if "max_length auto" in line]
    assert said == [
        "max_length auto: 2,060 tokens (3 pictures of up to 4 tokens, and 2,048 for the words).",
        "max_length auto: 2,068 tokens (5 pictures of up to 4 tokens, and 2,048 for the words).",
    ]


def test_a_number_and_null_are_as_they_were(config: Config) -> None:
    for given in (77, None):
        data = plain_runs.data_of(config(data={"max_length": given}))
        policy = data.fitting()[1]
        assert (policy.max_length, policy.shared) == (given, None)


def collated(policy: OverLengthPolicy, conversations: list[Any]) -> StepBatch:
    found = StepCollator(policy.encoder, policy, 8, packing=True)(conversations)
    assert isinstance(found, StepBatch)
    return found


def test_rows_are_shared_as_with_the_former_default() -> None:
    """Where each conversation would have fitted before, the batches are the same ones to the last token."""
    encoder = encoder_of(tiny_models.llava_processor())
    questions = [talk for seed in range(3) for talk in cases.about_one_picture(1, seed)]
    whole = collated(OverLengthPolicy(encoder, None, "error"), questions)
    most = max(length for batch in whole.micro_batches for length in batch.lengths) + 3
    before = collated(OverLengthPolicy(encoder, most, "error"), questions)
    now = collated(OverLengthPolicy(encoder, most + 1000, "error", shared=most), questions)
    assert len(now.micro_batches) == len(before.micro_batches) > len(whole.micro_batches)
    for one, other in zip(now.micro_batches, before.micro_batches, strict=True):
        assert one.ids == other.ids
        assert torch.equal(one.inputs["input_ids"], other.inputs["input_ids"])
        assert torch.equal(one.labels, other.labels)


def test_longer_conversations_share_rows_up_to_the_limit() -> None:
    encoder = encoder_of(tiny_models.llava_processor())
    questions = cases.about_one_picture(1)
    (whole,) = collated(OverLengthPolicy(encoder, None, "error"), questions).micro_batches
    shared = min(whole.lengths) - 1
    (found,) = collated(OverLengthPolicy(encoder, 10_000, "error", shared=shared), questions).micro_batches
    assert found.ids == whole.ids


@pytest.mark.parametrize("family", ["internvl", "idefics3"])
def test_by_default_no_picture_is_too_long(family: str) -> None:
    """As the published checkpoints: the former default of 2,048 refused each of their pictures."""
    processor = TINY[family].build(0)[1]
    name = "image_seq_length" if family == "internvl" else "image_seq_len"
    setattr(processor, name, 600)
    encoder = encoder_of(processor)
    (talk,) = cases.about_one_picture(1)[:1]
    batch = encoder.encode([talk], [[tiny_models.picture(0, (300, 300))]], side="right")
    assert max(batch.lengths) > TEXT
    limit = auto_length(processor, 1).limit
    assert limit is not None
    assert max(batch.lengths) <= limit


@pytest.mark.slow
def test_the_course_keeps_the_number(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(trainer={"limit_val_batches": 0})
    runs.fit(path)
    course = runs.checkpoint(runs.run_dir(path), 3)["course"]
    assert course["max_length"] == 4 + TEXT
    assert runs.verb("fit", path, "--ckpt_path", "last", "--trainer.max_epochs=2") == 0
    assert runs.verb("fit", path, "--ckpt_path", "last", "--trainer.max_epochs=3", "--data.init_args.max_length=9") == 2
    assert "max_length (was auto, is 9)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_default_run_is_the_run_with_the_former_default(config: Config) -> None:
    losses = []
    for changed in ({}, {"max_length": 2048}):
        path = config(data=changed, trainer={"limit_val_batches": 0})
        runs.fit(path)
        folder = runs.run_dir(path)
        losses.append([value for _, value in runs.scalars(folder)["train/loss"]])
        folder.rename(folder.with_name(f"run{len(losses)}"))
    assert losses[0] == losses[1]


def test_a_budget_without_data_takes_it_for_its_pictures(tiny_llava: Path, tmp_path: Path) -> None:
    from vlm_lit.preflight.budget.rows import longest_row

    data = plain_runs.data_of(small_config.write(tmp_path, tiny_llava, tmp_path / "nowhere"))
    row = longest_row(data, length=None, supervised=None, images=2, image_tokens=lambda _: 4)
    assert row.length == 2 * 4 + TEXT
    assert row.supervised == TEXT
