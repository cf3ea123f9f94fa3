"""Tests of the blind controls: each changes what is seen, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support import tiny_models
from tests.support.tiny_families.catalogue import TINY
from vlm_lit.cli import main
from vlm_lit.data.answers.blind import GREY, Blind, BlindPrompts, derangement, name_own_images
from vlm_lit.data.images.images import load_images
from vlm_lit.data.rows.encoder_choice import encoder_of
from vlm_lit.data.rows.over_length import OverLengthPolicy
from vlm_lit.data.rows.packing import image_key
from vlm_lit.data.rows.prompt_collate import PromptCollator
from vlm_lit.errors import ConfigError, RecordError
from vlm_lit.schema import IMAGE, Conversation, EvaluationBatch, ImageRef, Turn
from vlm_lit.studies.run_files.facts import read_facts

Config = Callable[..., Path]
KINDS: tuple[Blind, ...] = get_args(Blind)


def png(seed: int, size: tuple[int, int] = (40, 32), **options: Any) -> ImageRef:
    file = BytesIO()
    tiny_models.picture(seed, size).save(file, "PNG", **options)
    return ImageRef(data=file.getvalue())


def asked(name: str, *images: ImageRef) -> Conversation:
    turns = (
        Turn(role="user", content=("look here ", *(IMAGE,) * len(images), "what colour is it?")),
        Turn(role="assistant", content=("red",)),
    )
    return Conversation(
        id=name, turns=turns, images=images, references=("red",), image_id=name[0], groups={"answer_type": "other"}
    )


A, B, C = png(1), png(2, (60, 30)), png(3)
TALKS = [asked("a1", A), asked("a2", A), asked("b1", B), asked("none"), asked("c1", C), asked("x", A, B),
         asked("y", C, A)]  # fmt: skip


@given(keys=st.lists(st.integers(), min_size=2, max_size=30, unique=True), seed=st.integers(0, 2**31))
def test_everyone_gets_another_and_each_is_used_once(keys: list[int], seed: int) -> None:
    others = derangement(keys, seed)
    assert all(key != other for key, other in others.items())
    assert sorted(others) == sorted(others.values()) == sorted(keys)
    assert others == derangement(keys, seed)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=12), st.integers(0, 9))
def test_no_conversation_keeps_its_images_when_they_are_shuffled(shown: list[tuple[int, int]], seed: int) -> None:
    talks = [
        asked(str(i), *(ImageRef(path=Path(f"/{picture}-{k}.png")) for k in range(count)))
        for i, (picture, count) in enumerate(shown)
    ]
    different = [{image_key(t) for t in talks if len(t.images) == count} for count in (1, 2)]
    if any(len(keys) == 1 for keys in different):
        with pytest.raises(ConfigError, match=r"all conversations with .* show the same"):
            BlindPrompts(talks, "shuffle", seed=seed)
        return
    blind = BlindPrompts(talks, "shuffle", seed=seed)
    for i, talk in enumerate(talks):
        assert len(blind[i].images) == len(talk.images)
        assert blind[i].images != talk.images or not talk.images
        assert blind.image_keys[i] == image_key(blind[i])
    # What shared an image still does, and every image is still shown.
    pairs = {(image_key(talk), blind.image_keys[i]) for i, talk in enumerate(talks)}
    assert len(pairs) == len({own for own, _ in pairs}) == len({other for _, other in pairs})


def test_the_seed_decides_who_is_shown_what() -> None:
    talks = [asked(str(i), ImageRef(path=Path(f"/{i}.png"))) for i in range(20)]
    first, same, other = (BlindPrompts(talks, "shuffle", seed=seed).image_keys for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_pictures_without_a_name_are_shuffled_too() -> None:
    talks = [asked(str(i), ImageRef(pixels=tiny_models.picture(i))) for i in range(2)]
    blind = BlindPrompts(talks, "shuffle", seed=0)
    assert [blind[i].images for i in (0, 1)] == [talks[1].images, talks[0].images]
    assert blind.image_keys == [None, None]


def test_blank_pictures_are_grey_and_of_the_size_that_was_seen() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter: a person sees it upright
    talks = [*TALKS, asked("turned", png(4, (50, 20), exif=exif))]
    blind = BlindPrompts(talks, "blank", seed=0)
    for i, talk in enumerate(talks):
        seen, shown = load_images(talk), load_images(blind[i])
        assert [image.size for image in shown] == [image.size for image in seen]
        assert all(image.getcolors() == [(image.width * image.height, GREY)] for image in shown)
        assert blind.image_keys[i] == image_key(blind[i])
    assert load_images(blind[7])[0].size == (20, 50)
    assert blind.image_keys[0] == blind.image_keys[4] != blind.image_keys[2]


def test_an_unreadable_image_is_named_before_anything_is_asked() -> None:
    broken = replace(asked("a", ImageRef(data=b"GIF")), file="talks.json", record="0")
    with pytest.raises(RecordError, match=r"talks\.json, record 0: image 1 of 1"):
        BlindPrompts([broken], "blank", seed=0)


def test_dropped_images_leave_the_words() -> None:
    blind = BlindPrompts(TALKS, "drop", seed=0)
    for i in range(len(TALKS)):
        assert blind[i].images == ()
        assert blind.image_keys[i] is None
        assert [turn.text for turn in blind[i].turns] == [turn.text for turn in TALKS[i].turns]
    assert blind[5].turns[0].content == ("look here what colour is it?",)
    assert blind[3].turns == TALKS[3].turns


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_the_images_is_the_conversations_own(kind: Blind) -> None:
    blind = BlindPrompts(TALKS, kind, seed=0)
    assert len(blind) == len(TALKS)
    for i, talk in enumerate(TALKS):
        kept = {**vars(talk), "own": talk.images, "images": blind[i].images, "turns": blind[i].turns}
        assert vars(blind[i]) == kept
        assert (blind[i].images != talk.images) is bool(talk.images)
        assert (blind[i].turns == talk.turns) is (kind != "drop" or not talk.images)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_prompts_show_the_control_and_name_what_they_are_about(kind: Blind, packing: bool) -> None:
    encoder = encoder_of(TINY["llava"].build(0)[1])
    blind = BlindPrompts(TALKS, kind, seed=0)
    collator = PromptCollator(encoder, OverLengthPolicy(encoder, None, "error"), packing=packing)
    prompts = collator([blind[i] for i in range(len(blind))])
    assert isinstance(prompts, EvaluationBatch)
    pixels = [batch.inputs["pixel_values"] for batch in prompts.batches if "pixel_values" in batch.inputs]
    if kind == "drop":
        assert not pixels
    if kind == "blank":
        assert pixels
        assert all(bool((picture == picture[:, :1, :1]).all()) for batch in pixels for picture in batch)
    by_id = {c.id: c for batch in name_own_images(prompts).batches for c in batch.conversations}
    assert [by_id[name].images for name in prompts.ids] == [talk.images for talk in TALKS]


def test_a_family_that_needs_an_image_says_so() -> None:
    encoder = encoder_of(TINY["paligemma"].build(0)[1])
    blind = BlindPrompts([asked("a", A)], "drop", seed=0)
    refused = PromptCollator(encoder, OverLengthPolicy(encoder, None, "error"))([blind[0]])
    assert isinstance(refused, RecordError)
    assert "one image or more" in str(refused)


def test_a_model_is_not_trained_blind(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(data={"blind": "blank"})
    assert main(["fit", "--config", str(path)]) == 2
    assert "data.blind is blank, which is for evaluations" in capsys.readouterr().err
    assert not Path(yaml.safe_load(path.read_text())["run_dir"]).exists()


def lines(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_test_run_with_each_control(config: Config, tmp_path: Path, small: Path) -> None:
    path, found, features = config(), {}, tmp_path / "features"
    for kind in (None, *KINDS):
        run = tmp_path / str(kind)
        options = ["--data.init_args.blind", kind, "--data.init_args.feature_cache", str(features)] if kind else []
        assert main(["test", "--config", str(path), "--run_dir", str(run), *options]) == 0
        found[kind] = lines(run)
        assert read_facts(run / "predictions.jsonl").shown["images"] == {
            None: "as they are", "blank": "blank", "shuffle": "shuffled", "drop": "dropped",
        }[kind]  # fmt: skip
    assert not features.exists()  # nobody would ask for grey pictures' features again
    for kind in KINDS:
        for own, blind_line in zip(found[None], found[kind], strict=True):
            assert {**blind_line, "prediction": 0, "score": 0} == {**own, "prediction": 0, "score": 0}
    assert [line["image"] for line in found["drop"]] == [str(small / f"images/val{i}.png") for i in range(6)]
    assert [line["prediction"] for line in found["blank"]] != [line["prediction"] for line in found[None]]
